/* The input of crunch: lines of CSV become shots, and what is wrong with a line is said, not guessed.
 *
 *     id,speed,angle,mass,diameter        the header, may be left out
 *     ball-1,120.5,45,0.2,0.04
 *     "the ""big"" one, red",80,30,7.26,0.12
 *
 * Lines end in LF or CR LF, the last one in either or nothing; blank lines and a byte order mark are
 * skipped. Only the id may be quoted.
 */
#ifndef CRUNCH_CSV_H
#define CRUNCH_CSV_H

#include "crunch_flight.h"

#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "id,speed,angle,mass,diameter"
enum { LONGEST_LINE = 4096, LONGEST_NUMBER = 255 };

/* A row of the table. Points into its text, which is not terminated by anything. */
struct row {
    const char *line; /* NULL: a row of the built-in input, whose id is its number */
    size_t length;
    size_t id_length; /* the id is the beginning of the line, quotes and all */
    size_t number;    /* of the line in the file, from 1 */
    const char *problem; /* NULL: it has a shot */
};

struct table {
    char *text;         /* the whole file                       */
    struct row *rows;   /* all, good and bad, in order          */
    size_t row_count;
    struct shot *shots; /* those of the good rows, in order too */
    size_t shot_count;
};

struct field {
    const char *text;
    size_t length;
};

static inline void table_free(struct table *table)
{
    free(table->text);
    free(table->rows);
    free(table->shots);
}

/* Reads a stream to its end. Returns NULL if it cannot be read or is too large for memory; errno tells. */
static inline char *read_all(FILE *file, size_t *size)
{
    size_t used = 0, space = 1 << 16;
    char *text = malloc(space);
    while (text) {
        used += fread(text + used, 1, space - used, file);
        if (used < space)
            break;
        char *larger = space > (size_t)-1 / 2 ? NULL : realloc(text, space * 2);
        if (!larger)
            free(text);
        text = larger;
        space *= 2;
    }
    if (text && ferror(file)) {
        free(text);
        text = NULL;
    }
    *size = used;
    return text;
}

/* Cuts the id off, which may be quoted and then contain commas, and doubled quotes. */
static inline const char *cut_id(const char *line, size_t length, size_t *id_length)
{
    size_t at = 0;
    if (length > 0 && line[0] == '"') {
        for (at = 1; at < length; at++) {
            if (line[at] != '"')
                continue;
            if (at + 1 == length || line[at + 1] != '"')
                break;
            at++; /* a doubled quote stands for one */
        }
        if (at == length)
            return "the quote is not closed";
        at++;
        if (at < length && line[at] != ',')
            return "there is text after the closing quote";
        *id_length = at;
        return at > 2 ? NULL : "the id is empty";
    }
    while (at < length && line[at] != ',')
        at++;
    *id_length = at;
    return at > 0 ? NULL : "the id is empty";
}

/* Cuts the rest, ",a,b,c", into fields. Returns how many there are, of which the first `most` are stored. */
static inline size_t cut_fields(const char *rest, size_t length, struct field *fields, size_t most)
{
    size_t count = 0;
    for (size_t at = 0; at < length; count++) {
        size_t begin = ++at; /* after the comma */
        while (at < length && rest[at] != ',')
            at++;
        if (count < most) {
            fields[count].text = rest + begin;
            fields[count].length = at - begin;
        }
    }
    return count;
}

/* A decimal number, with blanks around it. strtod would take "inf", "nan" and "0x1p3" too, so letters are
 * refused first. */
static inline bool parse_number(struct field field, double *number)
{
    char text[LONGEST_NUMBER + 1], *end;
    while (field.length > 0 && (field.text[0] == ' ' || field.text[0] == '\t')) {
        field.text++;
        field.length--;
    }
    while (field.length > 0 && (field.text[field.length - 1] == ' ' || field.text[field.length - 1] == '\t'))
        field.length--;
    if (field.length == 0 || field.length > LONGEST_NUMBER)
        return false;
    memcpy(text, field.text, field.length);
    text[field.length] = '\0';
    if (strspn(text, "0123456789+-.eE") != field.length)
        return false;
    *number = strtod(text, &end); /* crunch never calls setlocale, so a point is a point */
    return end != text && *end == '\0';
}

/* Makes a shot of a line. Returns NULL, or what is wrong with it. */
static inline const char *parse_line(const char *line, size_t length, size_t *id_length, struct shot *shot)
{
    static const struct {
        const char *not_a_number, *not_possible;
        double least, most; /* DBL_MAX keeps out what is too large to be a double */
    } columns[4] = {
        {"speed is not a number", "speed must be 0 or more, and finite", 0, DBL_MAX},
        {"angle is not a number", "angle must be from 0 to 90 degrees", 0, 90},
        {"mass is not a number", "mass must be more than 0, and finite", DBL_TRUE_MIN, DBL_MAX},
        {"diameter is not a number", "diameter must be more than 0, and finite", DBL_TRUE_MIN, DBL_MAX},
    };
    if (length > LONGEST_LINE)
        return "the line is longer than 4096 bytes";
    if (memchr(line, '\0', length))
        return "there is a zero byte in the line";

    const char *problem = cut_id(line, length, id_length);
    if (problem)
        return problem;
    struct field fields[4];
    if (cut_fields(line + *id_length, length - *id_length, fields, 4) != 4)
        return "there are not 5 fields";

    double numbers[4];
    for (int i = 0; i < 4; i++) {
        if (!parse_number(fields[i], &numbers[i]))
            return columns[i].not_a_number;
        if (!(numbers[i] >= columns[i].least && numbers[i] <= columns[i].most))
            return columns[i].not_possible;
    }
    shot->speed = numbers[0];
    shot->angle = numbers[1];
    shot->mass = numbers[2];
    shot->diameter = numbers[3];
    return NULL;
}

/* Makes a table of a text, which it takes. Returns false, and the text is freed, if there is not enough
 * memory. */
static inline bool table_parse(struct table *table, char *text, size_t size)
{
    const char *at = text, *end = text + size;
    size_t lines = 1;
    for (const char *p = text; p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        lines++;
    memset(table, 0, sizeof *table);
    table->text = text;
    table->rows = calloc(lines, sizeof *table->rows);
    table->shots = calloc(lines, sizeof *table->shots);
    if (!table->rows || !table->shots) {
        table_free(table);
        return false;
    }

    if (size >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0)
        at += 3;
    for (size_t number = 1; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct row row = {at, (size_t)((newline ? newline : end) - at), 0, number, NULL};
        at = newline ? newline + 1 : end;
        if (row.length > 0 && row.line[row.length - 1] == '\r')
            row.length--;

        bool header = number == 1 && row.length == strlen(HEADER) && memcmp(row.line, HEADER, row.length) == 0;
        size_t blanks = 0;
        while (blanks < row.length && (row.line[blanks] == ' ' || row.line[blanks] == '\t'))
            blanks++;
        if (header || blanks == row.length)
            continue;

        row.problem = parse_line(row.line, row.length, &row.id_length, &table->shots[table->shot_count]);
        if (!row.problem)
            table->shot_count++;
        table->rows[table->row_count++] = row;
    }
    return true;
}

#endif
