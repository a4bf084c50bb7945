/* The functions that a pickle of tensors may name, and what they make of their arguments; see pt_pickle.h. */
#ifndef FORMATS_PT_REBUILD_H
#define FORMATS_PT_REBUILD_H

#include "formats/pt_pickle.h"

/* The value for MODULE.NAME, or VOCO_BAD_INPUT with that name. The texts are not terminated. */
enum voco_status rebuild_global(struct pickle_value *value, const char *module, size_t module_bytes,
                                const char *name, size_t name_bytes, const char *path);

/* The value of function(arguments). */
enum voco_status rebuild_call(struct pickle_value *value, struct pickle *pickle,
                              const struct pickle_value *function, const struct pickle_value *arguments,
                              const char *path);

/* The storage of a persistent id: ('storage', torch.FloatStorage, key, location, count). The location is not
 * looked at: data of any device lies in the file alike. */
enum voco_status rebuild_storage(struct pickle_value *value, struct pickle *pickle,
                                 const struct pickle_value *id, const char *path);

/* A new, empty tuple, list or dict. */
enum voco_status pickle_new_container(struct pickle_value *value, struct pickle *pickle,
                                      enum pickle_kind kind, const char *path);

#endif
