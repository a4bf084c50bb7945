/* Writes event files into a folder, for tools/interop/check_events.py: steps 0 to 9, then, as a run that goes
 * on from step 6, steps 6 to 11, and the PNG file as an image.
 *
 *     write_events FOLDER IMAGE.png */
#include "formats/tensorboard_events.h"

#include <stdio.h>

static enum voco_status write_steps(const char *folder, int first, int end, float factor, const void *png,
                                    size_t size)
{
    struct tensorboard_events *events = NULL;
    const double time = 1700000000.0 + factor;
    enum voco_status status = tensorboard_events_create(&events, folder, first, time);
    for (int step = first; status == VOCO_OK && step < end; step++) {
        const struct tensorboard_scalar scalars[] = {{"loss", factor * (float)step},
                                                     {"loss/intra", 1.0F / (float)(step + 1)}};
        status = tensorboard_events_scalars(events, step, time + step, scalars, 2);
    }
    if (status == VOCO_OK) {
        status = tensorboard_events_image(events, end - 1, time + end, "crops", png, size);
    }
    const enum voco_status closed = tensorboard_events_close(events);
    return status == VOCO_OK ? closed : status;
}

int main(int argc, char **argv)
{
    static unsigned char png[1 << 20];
    FILE *image = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (image == NULL) {
        (void)fprintf(stderr, "usage: write_events FOLDER IMAGE.png\n");
        return 2;
    }
    const size_t size = fread(png, 1, sizeof png, image);
    (void)fclose(image);
    if (write_steps(argv[1], 0, 10, 1.0F, png, size) != VOCO_OK ||
        write_steps(argv[1], 6, 12, 2.0F, png, size) != VOCO_OK) {
        (void)fprintf(stderr, "write_events: %s\n", voco_error_message());
        return 1;
    }
    return 0;
}
