#include "model/model.h"

#include <string.h>

/* How the names of a part's parameters begin, behind "backbone."; a stage has two beginnings. */
static const char *const beginnings[backbone_parts][2] = {
    {"encoder1.", NULL},
    {"encoder10.", NULL},
    {"swinViT.layers4.", "swinViT.layers4c."},
    {"swinViT.layers3.", "swinViT.layers3c."},
    {"encoder4.", NULL},
    {"swinViT.layers2.", "swinViT.layers2c."},
    {"encoder3.", NULL},
    {"swinViT.layers1.", "swinViT.layers1c."},
    {"encoder2.", NULL},
    {"swinViT.patch_embed.", NULL},
};

int backbone_part_of(const struct parameter *parameter)
{
    const char *name = parameter->name + strlen("backbone.");
    for (int part = 0; part < backbone_parts && parameter->group == GROUP_BACKBONE; part++) {
        for (int i = 0; i < 2 && beginnings[part][i] != NULL; i++) {
            if (strncmp(name, beginnings[part][i], strlen(beginnings[part][i])) == 0) {
                return part;
            }
        }
    }
    return backbone_parts;
}
