#include "store/preparation_sets.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t find_set(struct preparation_sets *sets, const struct cache_request *request, size_t likely)
{
    for (size_t i = 0; i <= sets->count; i++) {
        const size_t at = i == 0 ? likely : i - 1;
        if (at < sets->count && sets->sets[at].settings == request->settings &&
            strcmp(sets->sets[at].name, request->set) == 0) {
            return at;
        }
    }
    return sets->count;
}

enum voco_status preparation_sets_list(struct preparation_sets *out, const struct cache_request *requests,
                                       size_t count)
{
    size_t room = 0;
    size_t at = 0;
    *out = (struct preparation_sets){.of_request = calloc(count > 0 ? count : 1, sizeof *out->of_request)};
    for (size_t i = 0; out->of_request != NULL && i < count; i++) {
        at = find_set(out, &requests[i], at);
        if (at == out->count) {
            if (at == room) {
                room = room > 0 ? 2 * room : 16;
                struct preparation_set *grown = realloc(out->sets, room * sizeof *grown);
                if (grown == NULL) {
                    break;
                }
                out->sets = grown;
            }
            out->sets[out->count++] = (struct preparation_set){requests[i].set, requests[i].settings, 0};
        }
        out->sets[at].listed++;
        out->of_request[i] = at;
        if (i + 1 == count) {
            return VOCO_OK;
        }
    }
    if (count == 0 && out->of_request != NULL) {
        return VOCO_OK;
    }
    preparation_sets_free(out);
    return fail(VOCO_NO_MEMORY, "the list of %zu volumes does not fit in memory", count);
}

void preparation_sets_free(struct preparation_sets *sets)
{
    free(sets->sets);
    free(sets->of_request);
    *sets = (struct preparation_sets){0};
}

json_t *cache_settings_json(const struct cache_settings *settings)
{
    const struct preset *preset = &settings->preset;
    json_t *json = json_pack("{s:s, s:[f,f,f], s:s, s:[i,i,i], s:i, s:i}", "preset", preset->name,
                             "spacing_mm", preset->spacing[0], preset->spacing[1], preset->spacing[2], "take",
                             preset->window == WINDOW_RESIZE ? "resize" : "crop", "window",
                             settings->window[0], settings->window[1], settings->window[2], "bits",
                             bits_of_levels(settings->levels), "level", settings->level);
    if (json != NULL && preset->intensity == INTENSITY_WINDOW) {
        (void)json_object_set_new(json, "hu", json_pack("[f,f]", preset->low, preset->high));
    }
    return json;
}

void format_moment(char text[24])
{
    const time_t now = time(NULL);
    struct tm parts;
    text[0] = '\0';
    if (gmtime_r(&now, &parts) != NULL) {
        (void)strftime(text, 24, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
}
