/* The standard body: where each structure lies, as signed distances (mm, negative inside), and what it looks
 * like. */
#include "data/phantom.h"

#include <math.h>

const char *phantom_structure_name(enum phantom_structure structure)
{
    static const char *const names[PHANTOM_STRUCTURES] = {
        "background", "body",    "fat",     "lung_right",   "lung_left",   "heart",
        "liver",      "spleen",  "stomach", "kidney_right", "kidney_left", "spine",
        "aorta",      "bladder", "ribs",    "pelvis",       "trachea",     "bowel"};
    return names[structure];
}

/* Distance to an ellipsoid, first-order exact near its surface. */
static double ellipsoid(const double point[3], const double centre[3], const double radius[3])
{
    double length = 0.0;
    double gradient = 0.0;
    for (int axis = 0; axis < 3; axis++) {
        const double scaled = (point[axis] - centre[axis]) / radius[axis];
        length += scaled * scaled;
        gradient += scaled * scaled / (radius[axis] * radius[axis]);
    }
    if (gradient < 1e-12) {
        return -fmin(radius[0], fmin(radius[1], radius[2]));
    }
    length = sqrt(length);
    return length * (length - 1.0) / sqrt(gradient);
}

/* Distance to a tube of one radius between two points. */
static double tube(const double point[3], const double from[3], const double to[3], double radius)
{
    double along = 0.0;
    double length = 0.0;
    for (int axis = 0; axis < 3; axis++) {
        along += (point[axis] - from[axis]) * (to[axis] - from[axis]);
        length += (to[axis] - from[axis]) * (to[axis] - from[axis]);
    }
    const double t = fmin(1.0, fmax(0.0, along / length));
    double squared = 0.0;
    for (int axis = 0; axis < 3; axis++) {
        const double d = point[axis] - from[axis] - t * (to[axis] - from[axis]);
        squared += d * d;
    }
    return sqrt(squared) - radius;
}

static double smooth_union(double a, double b, double width)
{
    const double h = fmax(width - fabs(a - b), 0.0) / width;
    return fmin(a, b) - h * h * width / 4.0;
}

/* The point in the frame of an organ: its shift undone, its size and tilt undone about the organ's centre. */
static void into_organ(double local[3], const struct phantom_subject *subject, enum phantom_structure organ,
                       const double centre[3], const double point[3])
{
    double d[3];
    for (int axis = 0; axis < 3; axis++) {
        d[axis] = point[axis] - centre[axis] - subject->organ[organ].shift[axis];
    }
    const double tilt = subject->organ[organ].tilt;
    local[0] = centre[0] + (d[0] - tilt * d[2]) / subject->organ[organ].size[0];
    local[1] = centre[1] + d[1] / subject->organ[organ].size[1];
    local[2] = centre[2] + (d[2] + tilt * d[0]) / subject->organ[organ].size[2];
}

static double organ_ellipsoid(const struct phantom_subject *subject, enum phantom_structure organ,
                              const double point[3], const double centre[3], const double radius[3])
{
    double local[3];
    into_organ(local, subject, organ, centre, point);
    return ellipsoid(local, centre, radius);
}

/* Half width and half depth of the muscular trunk along its height. */
static void trunk_contour(double half[2], const struct phantom_subject *subject, double z)
{
    enum { levels = 9 };
    static const double heights[levels] = {-230, -180, -120, -50, 20, 90, 150, 190, 235};
    static const double widths[levels] = {160, 168, 150, 136, 141, 150, 156, 160, 78};
    static const double depths[levels] = {92, 100, 98, 95, 102, 106, 100, 84, 62};
    int i = 0;
    while (i < levels - 2 && z > heights[i + 1]) {
        i++;
    }
    double t = fmin(1.0, fmax(0.0, (z - heights[i]) / (heights[i + 1] - heights[i])));
    t = t * t * (3.0 - 2.0 * t);
    half[0] = widths[i] + t * (widths[i + 1] - widths[i]);
    half[1] = depths[i] + t * (depths[i + 1] - depths[i]);
    static const double middles[3] = {-170.0, -50.0, 90.0};
    for (int part = 0; part < 3; part++) {
        const double d = (z - middles[part]) / 70.0;
        const double weight = exp(-0.5 * d * d);
        half[0] *= 1.0 + weight * subject->contour[part][0];
        half[1] *= 1.0 + weight * subject->contour[part][1];
    }
}

static double trunk(const struct phantom_subject *subject, const double point[3])
{
    double half[2];
    trunk_contour(half, subject, point[2]);
    const double x = fabs(point[0]) / half[0];
    const double y = fabs(point[1]) / half[1];
    return (pow(pow(x, 2.4) + pow(y, 2.4), 1.0 / 2.4) - 1.0) * fmin(half[0], half[1]);
}

/* Height of the diaphragm: two domes, the right one higher. */
static double diaphragm(const struct phantom_subject *subject, const double point[3])
{
    const double y = (point[1] - 5.0) / 70.0;
    const double right = (point[0] - 65.0) / 55.0;
    const double left = (point[0] + 70.0) / 55.0;
    return subject->breath - 6.0 + 48.0 * exp(-0.5 * (right * right + y * y)) +
           34.0 * exp(-0.5 * (left * left + y * y)) - 0.25 * (60.0 - point[1]);
}

static double spine_depth(double z)
{
    return -60.0 + 7.0 * sin((z + 90.0) / 75.0);
}

static double spine(const struct phantom_subject *subject, const double point[3])
{
    const double y = point[1] - spine_depth(point[2]) - subject->organ[PHANTOM_SPINE].shift[1];
    const double size = subject->organ[PHANTOM_SPINE].size[0];
    const double cycle = fmod(point[2] + 600.0, 29.0) - 14.5;
    const double vertebra[3] = {point[0], y, cycle};
    const double body_radius = 19.0 * size - 2.0 * cos(cycle * 0.216);
    const double body = hypot(point[0], y * 1.15) - body_radius;
    const double process_centre[3] = {0, -34, -4};
    const double process_radius[3] = {5, 17, 8};
    const double wings_centre[3] = {0, -20, 0};
    const double wings_radius[3] = {36, 6, 6};
    double result = smooth_union(body, ellipsoid(vertebra, process_centre, process_radius), 4.0);
    result = smooth_union(result, ellipsoid(vertebra, wings_centre, wings_radius), 4.0);
    const double canal = hypot(point[0], y + 22.0) - 8.0;
    return fmax(result, -canal);
}

static double aorta(const struct phantom_subject *subject, const double point[3])
{
    enum { pieces = 7 };
    static const double path[pieces][2][3] = {
        {{-12, -31, 112}, {-13, -32, 20}}, {{-13, -32, 20}, {-8, -30, -92}}, {{-8, -30, -92}, {46, -8, -170}},
        {{-8, -30, -92}, {-46, -8, -170}}, {{6, 22, 78}, {11, 18, 108}},     {{11, 18, 108}, {2, -6, 122}},
        {{2, -6, 122}, {-12, -31, 112}}};
    static const double radii[pieces] = {12, 10.5, 7, 7, 15, 14, 13};
    const double moved[3] = {point[0] - subject->organ[PHANTOM_AORTA].shift[0],
                             point[1] - subject->organ[PHANTOM_AORTA].shift[1], point[2]};
    double result = 1e9;
    for (int i = 0; i < pieces; i++) {
        result = fmin(result,
                      tube(moved, path[i][0], path[i][1], radii[i] * subject->organ[PHANTOM_AORTA].size[0]));
    }
    return result;
}

static double trachea(const double point[3])
{
    static const double top[3] = {0, -2, 240};
    static const double fork[3] = {0, -14, 126};
    static const double right[3] = {38, -18, 96};
    static const double left[3] = {-40, -18, 98};
    return fmin(tube(point, top, fork, 9.0),
                fmin(tube(point, fork, right, 6.5), tube(point, fork, left, 6.0)));
}

static double liver(const struct phantom_subject *subject, const double point[3])
{
    static const double centre[3] = {60, 4, 0};
    static const double right_radius[3] = {80, 82, 74};
    static const double left_centre[3] = {-8, 38, 12};
    static const double left_radius[3] = {76, 42, 36};
    double local[3];
    into_organ(local, subject, PHANTOM_LIVER, centre, point);
    return smooth_union(ellipsoid(local, centre, right_radius), ellipsoid(local, left_centre, left_radius),
                        25.0);
}

static double stomach(const struct phantom_subject *subject, const double point[3])
{
    static const double centre[3] = {-64, 22, -8};
    static const double radius[3] = {40, 40, 44};
    static const double outlet_centre[3] = {-18, 46, -52};
    static const double outlet_radius[3] = {46, 24, 20};
    double local[3];
    into_organ(local, subject, PHANTOM_STOMACH, centre, point);
    return smooth_union(ellipsoid(local, centre, radius), ellipsoid(local, outlet_centre, outlet_radius),
                        20.0);
}

static double kidney(const struct phantom_subject *subject, enum phantom_structure side,
                     const double point[3])
{
    const double sign = side == PHANTOM_KIDNEY_RIGHT ? 1.0 : -1.0;
    const double centre[3] = {sign * 60.0, -46.0, side == PHANTOM_KIDNEY_RIGHT ? -66.0 : -52.0};
    const double radius[3] = {25, 23, 52};
    const double hilum_centre[3] = {centre[0] - sign * 17.0, centre[1] + 8.0, centre[2]};
    const double hilum_radius[3] = {14, 12, 20};
    double local[3];
    into_organ(local, subject, side, centre, point);
    return fmax(ellipsoid(local, centre, radius), -ellipsoid(local, hilum_centre, hilum_radius));
}

/* wall: distance to the muscular trunk's surface. Ribs run down towards the front inside it; the lowest ones
 * end early. */
static double ribs(const double point[3], double wall)
{
    const double shell = fabs(wall + 9.0) - 5.0;
    const double along = point[2] + 0.42 * point[1];
    const double cycle = fabs(fmod(along + 600.0, 25.0) - 12.5);
    const double lowest = point[1] > 0.0 ? 0.35 * point[1] : -45.0;
    double result = 1e9;
    if (along > lowest && along < 195.0) {
        result = fmax(shell, cycle - 5.5);
    }
    if (point[1] > 0.0) {
        result = fmin(result, fmax(fmax(fabs(point[0]) - 17.0, shell), fabs(point[2] - 88.0) - 72.0));
    }
    return result;
}

static double pelvis(const double point[3], double wall)
{
    const double side = fabs(point[0]);
    const double crest = -112.0 - 0.004 * (point[1] + 10.0) * (point[1] + 10.0);
    double wing = fmax(fabs(wall + 30.0) - 5.5, point[2] - crest);
    wing = fmax(wing, fmax(45.0 - side, point[1] - 42.0));
    const double mirrored[3] = {side, point[1], point[2]};
    static const double hip[3] = {98, 4, -208};
    static const double hip_radius[3] = {25, 25, 25};
    static const double pubis_from[3] = {0, 58, -218};
    static const double pubis_to[3] = {80, 25, -195};
    static const double sacrum_centre[3] = {0, -66, -168};
    static const double sacrum_radius[3] = {46, 16, 48};
    double result = fmin(wing, ellipsoid(mirrored, hip, hip_radius));
    result = fmin(result, tube(mirrored, pubis_from, pubis_to, 10.0));
    return fmin(result, ellipsoid(point, sacrum_centre, sacrum_radius));
}

/* A field of blobs of about `size` mm between -1 and 1, for what is irregular: bowel loops, vessels, texture.
 */
static double texture(const double point[3], double size, double phase)
{
    const double x = point[0] / size;
    const double y = point[1] / size;
    const double z = point[2] / size;
    return (sin(x + 1.7 * sin(0.6 * y + phase)) + sin(y + 1.6 * sin(0.7 * z + 2.0 * phase)) +
            sin(z + 1.5 * sin(0.5 * x + 3.0 * phase))) /
           3.0;
}

/* Paints a structure over what is there, softly at its border. */
static void paint(struct phantom_tissue *tissue, double distance, double blur, double hu,
                  enum phantom_structure structure)
{
    const double coverage = 0.5 - distance / blur;
    if (coverage <= 0.0) {
        return;
    }
    tissue->hu += (float)(fmin(coverage, 1.0) * (hu - tissue->hu));
    if (coverage >= 0.5) {
        tissue->structure = structure;
    }
}

static void paint_thorax(struct phantom_tissue *tissue, const struct phantom_subject *subject,
                         const double point[3], double cavity, double blur)
{
    const double dome = diaphragm(subject, point);
    const double phase = (double)(subject->number % 97);
    const double vessels = texture(point, 6.5, phase) > 0.62 ? 560.0 : 0.0;
    for (int side = 0; side < 2; side++) {
        const enum phantom_structure lung = side == 0 ? PHANTOM_LUNG_RIGHT : PHANTOM_LUNG_LEFT;
        const double centre[3] = {side == 0 ? 76.0 : -76.0, -4.0, 62.0};
        const double radius[3] = {66, 98, 142};
        double distance = organ_ellipsoid(subject, lung, point, centre, radius);
        distance = fmax(distance, fmax(cavity + 3.0, dome - point[2]));
        paint(tissue, distance, blur, subject->hu[lung] - 0.35 * point[1] + vessels, lung);
    }
    static const double heart_centre[3] = {-20, 24, 62};
    static const double heart_radius[3] = {54, 42, 52};
    const double heart = organ_ellipsoid(subject, PHANTOM_HEART, point, heart_centre, heart_radius);
    const double ventricle = texture(point, 22.0, phase + 4.0) > 0.35 ? -0.35 : 0.0;
    paint(tissue, fmax(heart, dome - point[2] - 12.0), blur,
          subject->hu[PHANTOM_HEART] * (1.0 + ventricle) - 15.0 * ventricle, PHANTOM_HEART);
    paint(tissue, trachea(point), blur, subject->hu[PHANTOM_TRACHEA], PHANTOM_TRACHEA);
}

static void paint_abdomen(struct phantom_tissue *tissue, const struct phantom_subject *subject,
                          const double point[3], double cavity, double blur)
{
    const double below = fmax(cavity, point[2] - diaphragm(subject, point) + 3.0);
    const double phase = (double)(subject->number % 89);
    const double loops = texture(point, 12.0, phase);
    static const double bowel_centre[3] = {0, 28, -105};
    static const double bowel_radius[3] = {112, 55, 72};
    const double bowel = organ_ellipsoid(subject, PHANTOM_BOWEL, point, bowel_centre, bowel_radius);
    const double bowel_hu = loops > 0.55 && point[1] > 30.0 ? -700.0 : subject->hu[PHANTOM_BOWEL];
    paint(tissue, fmax(fmax(bowel, below), -14.0 * (loops + 0.15)), blur, bowel_hu, PHANTOM_BOWEL);

    const double hepatic_vessels =
        texture(point, 9.0, phase + 2.0) > 0.66 ? 0.3 * subject->hu[PHANTOM_AORTA] : 0.0;
    paint(tissue, fmax(liver(subject, point), below), blur,
          subject->hu[PHANTOM_LIVER] + 0.3 * hepatic_vessels, PHANTOM_LIVER);
    const double gas = subject->organ[PHANTOM_STOMACH].shift[1] + 40.0;
    paint(tissue, fmax(stomach(subject, point), below), blur,
          point[1] > gas ? -900.0 : subject->hu[PHANTOM_STOMACH], PHANTOM_STOMACH);
    static const double spleen_centre[3] = {-98, -36, 2};
    static const double spleen_radius[3] = {27, 46, 44};
    paint(tissue, fmax(organ_ellipsoid(subject, PHANTOM_SPLEEN, point, spleen_centre, spleen_radius), below),
          blur, subject->hu[PHANTOM_SPLEEN], PHANTOM_SPLEEN);
    for (int side = PHANTOM_KIDNEY_RIGHT; side <= PHANTOM_KIDNEY_LEFT; side++) {
        const double distance = kidney(subject, (enum phantom_structure)side, point);
        const double cortex = distance > -8.0 ? 1.0 : 0.75;
        paint(tissue, distance, blur, cortex * subject->hu[side], (enum phantom_structure)side);
    }
    static const double bladder_centre[3] = {0, 22, -190};
    static const double bladder_radius[3] = {40, 32, 30};
    paint(tissue, organ_ellipsoid(subject, PHANTOM_BLADDER, point, bladder_centre, bladder_radius), blur,
          subject->hu[PHANTOM_BLADDER], PHANTOM_BLADDER);
}

static void paint_bones(struct phantom_tissue *tissue, const struct phantom_subject *subject,
                        const double point[3], double wall, double blur)
{
    const double disc = fabs(fmod(point[2] + 600.0, 29.0) - 14.5) > 12.0 ? 0.25 : 1.0;
    paint(tissue, spine(subject, point), blur, disc * subject->hu[PHANTOM_SPINE], PHANTOM_SPINE);
    if (point[2] > -60.0) {
        paint(tissue, ribs(point, wall), blur, subject->hu[PHANTOM_RIBS], PHANTOM_RIBS);
    } else {
        paint(tissue, pelvis(point, wall), blur, subject->hu[PHANTOM_PELVIS], PHANTOM_PELVIS);
    }
}

struct phantom_tissue phantom_tissue_at(const struct phantom_subject *subject, const double point[3],
                                        double blur)
{
    struct phantom_tissue tissue = {(float)subject->hu[PHANTOM_AIR], PHANTOM_AIR};
    const double wall = trunk(subject, point);
    if (wall > subject->fat + blur) {
        return tissue;
    }
    paint(&tissue, wall - subject->fat, blur, subject->hu[PHANTOM_FAT], PHANTOM_FAT);
    paint(&tissue, wall, blur, subject->hu[PHANTOM_BODY], PHANTOM_BODY);
    const double cavity = wall + 14.0;
    const double behind = spine_depth(point[2]) + 4.0 - point[1];
    const double inside = point[2] < diaphragm(subject, point) ? fmax(cavity, behind) : cavity;
    paint(&tissue, inside, blur, subject->hu[PHANTOM_FAT] + 10.0, PHANTOM_FAT);
    paint_thorax(&tissue, subject, point, cavity, blur);
    paint_abdomen(&tissue, subject, point, cavity, blur);
    paint(&tissue, aorta(subject, point), blur, subject->hu[PHANTOM_AORTA], PHANTOM_AORTA);
    paint_bones(&tissue, subject, point, wall, blur);
    return tissue;
}
