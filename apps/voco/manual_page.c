/* Manual pages, from the texts that help shows. */
#include "help_forms.h"

#include <ctype.h>
#include <string.h>

/* Text as roff: what would be a request, an escape or a typographic sign is written as the plain character.
 * In prose, what stands between backticks is bold. */
static void print_text(FILE *out, const char *text, size_t length, int prose)
{
    int bold = 0;
    for (size_t i = 0; i < length; i++) {
        const int line_begins = i == 0 || text[i - 1] == '\n';
        if (line_begins && (text[i] == '.' || text[i] == '\'')) {
            (void)fputs("\\&", out);
        }
        switch (text[i]) {
        case '\\':
            (void)fputs("\\e", out);
            break;
        case '-':
            (void)fputs("\\-", out);
            break;
        case '\'':
            (void)fputs("\\(aq", out);
            break;
        case '^':
            (void)fputs("\\(ha", out);
            break;
        case '~':
            (void)fputs("\\(ti", out);
            break;
        case '`':
            bold = !bold;
            (void)fputs(!prose ? "\\(ga" : (bold ? "\\fB" : "\\fR"), out);
            break;
        default:
            (void)fputc(text[i], out);
        }
    }
}

static void print_words(FILE *out, const char *text)
{
    print_text(out, text, strlen(text), 1);
}

/* Lines of commands, as they are. */
static void print_verbatim(FILE *out, const char *text)
{
    (void)fputs(".nf\n", out);
    print_text(out, text, strlen(text), 0);
    (void)fputs(".fi\n", out);
}

/* Paragraphs: empty lines part them, indented lines keep their form. */
static void print_paragraphs(FILE *out, const char *text)
{
    int kept = 0;
    int begins = 0; /* the section's heading has begun the first */
    while (*text != '\0') {
        const size_t length = strcspn(text, "\n");
        const int keep = text[0] == ' ';
        if (length > 0 && (begins || keep != kept)) {
            (void)fputs(kept ? ".fi\n" : "", out);
            (void)fputs(".PP\n", out);
            (void)fputs(keep ? ".nf\n" : "", out);
            kept = keep;
        }
        begins = length == 0;
        if (length > 0) {
            print_text(out, text, length, 1);
            (void)fputc('\n', out);
        }
        text += length + (text[length] == '\n');
    }
    (void)fputs(kept ? ".fi\n" : "", out);
}

static void print_header(FILE *out, const char *verb, const char *summary)
{
    char title[64];
    (void)snprintf(title, sizeof title, "VOCO%s%s", verb[0] != '\0' ? "-" : "", verb);
    for (char *p = title; *p != '\0'; p++) {
        *p = (char)toupper((unsigned char)*p);
    }
    (void)fprintf(out, ".TH %s 1 \"\" \"voco " VOCO_VERSION "\" \"User Commands\"\n.SH NAME\nvoco%s%s \\- ",
                  title, verb[0] != '\0' ? "\\-" : "", verb);
    print_words(out, summary);
}

/* Values are bold, what stands for one is in italics. */
static void print_argument(FILE *out, const char *argument)
{
    struct argument_alternative alternative;
    const char *place = argument;
    (void)fputc(' ', out);
    while (next_alternative(&alternative, &place)) {
        (void)fputs(alternative.is_value ? "\\fB" : "\\fI", out);
        print_text(out, alternative.text, (size_t)alternative.length, 0);
        (void)fprintf(out, "\\fR%s", place != NULL ? "|" : "");
    }
}

static void print_option(FILE *out, const struct option_description *option)
{
    char value[128];
    (void)fputs(".TP\n\\fB\\-\\-", out);
    print_text(out, option->name, strlen(option->name), 0);
    (void)fputs("\\fR", out);
    if (option->argument != NULL) {
        print_argument(out, option->argument);
    }
    (void)fputc('\n', out);
    print_words(out, option->help);
    format_default(value, sizeof value, option);
    if (value[0] != '\0') {
        (void)fputs(" [", out);
        print_text(out, value, strlen(value), 0);
        (void)fputc(']', out);
    }
    (void)fputc('\n', out);
}

static void print_exit_status(FILE *out)
{
    (void)fputs(".SH EXIT STATUS\n.TP\n0\ndone, or stopped by a signal after a whole piece of work\n"
                ".TP\n1\nfailed; one line on standard error names the file and the cause\n"
                ".TP\n2\nthe command line is wrong\n",
                out);
}

void print_manual_page(FILE *out, const struct verb *verb, const struct option_description *options)
{
    print_header(out, verb->name, verb->summary);
    (void)fputs("\n.SH SYNOPSIS\n.nf\n", out);
    /* The second form of a command begins in the column of the first, which help writes behind "Usage: ". */
    (void)fprintf(out, "voco %s ", verb->name);
    for (const char *line = verb->arguments; *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        print_text(out, line, length, 0);
        (void)fputc('\n', out);
        line += length + (line[length] == '\n');
        line += strspn(line, " ");
    }
    (void)fputs(".fi\n", out);
    if (verb->details != NULL) {
        (void)fputs(".SH DESCRIPTION\n", out);
        print_paragraphs(out, verb->details);
    }
    (void)fputs(".SH OPTIONS\nDefaults stand in brackets.\n", out);
    for (const struct option_description *option = options; option->name != NULL; option++) {
        print_option(out, option);
    }
    (void)fputs(".TP\n\\fB\\-\\-help\\fR\nthis text, shorter\n.SH EXAMPLES\n", out);
    print_verbatim(out, verb->examples);
    print_exit_status(out);
    (void)fputs(".SH SEE ALSO\n.BR voco (1)\n", out);
}

void print_manual_overview(FILE *out, const struct verb *const *verbs, int count)
{
    print_header(out, "", "self-supervised pre-training for 3D medical images");
    (void)fputs("\n.SH SYNOPSIS\n.nf\nvoco \\fIVERB\\fR ... [options]\nvoco \\-\\-help|\\-\\-version\n.fi\n"
                ".SH DESCRIPTION\n"
                "From a folder of CT or MR volumes without labels to a Swin encoder that MONAI\\(aqs "
                "SwinUNETR loads. "
                "The method is\nVolume Contrast (VoCo).\n"
                ".SH VERBS\n",
                out);
    for (int i = 0; i < count; i++) {
        (void)fprintf(out, ".TP\n\\fBvoco\\-%s\\fR(1)\n", verbs[i]->name);
        print_words(out, verbs[i]->summary);
        (void)fputc('\n', out);
    }
    (void)fputs(".SH OPTIONS\n"
                ".TP\n\\fB\\-\\-help\\fR[=\\fBman\\fR|\\fBbash\\fR|\\fBzsh\\fR]\n"
                "the list of verbs; or this page; or the completion of words for a shell\n"
                ".TP\n\\fB\\-\\-version\\fR\nthe version\n"
                ".SH EXAMPLES\n",
                out);
    print_verbatim(out, first_commands);
    print_exit_status(out);
    (void)fputs(".SH SEE ALSO\n", out);
    for (int i = 0; i < count; i++) {
        (void)fprintf(out, ".BR voco\\-%s (1)%s\n", verbs[i]->name, i + 1 < count ? "," : "");
    }
}
