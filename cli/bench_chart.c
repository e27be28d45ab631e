/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_chart.h"

#include "base/units.h"
#include "cli/text.h"

#include <math.h>
#include <string.h>

/* Where the field of curves is in its picture; ticks stand left of it and below. */
#define HEIGHT 230.0
#define LEFT 64.0
#define RIGHT (DR_CHART_WIDTH - 14.0)
#define TOP 20.0
#define BOTTOM (HEIGHT - 38.0)
#define TICKS 4.0

/* Where bars begin, and how much the longest leaves for its text. */
#define BAR_LEFT 130.0
#define BAR_TEXT 80.0
#define BAR_STEP 26.0

void dr_chart_put_text(FILE *out, const char *text)
{
	struct dr_text_unit unit;

	while (dr_text_next(&text, &unit))
		switch (*unit.bytes) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fwrite(unit.bytes, 1, unit.len_bytes, out);
		}
}

static void begin(FILE *out, const char *title, double height)
{
	fprintf(out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", DR_CHART_WIDTH, height);
	dr_chart_put_text(out, title);
	fputs("\">\n", out);
}

/* ---- curves ------------------------------------------------------------------------ */

/* 1, 2, 2.5 or 5 times a power of ten: the step of about TICKS ticks up to `most`. */
static double round_step(double most, bool bytes)
{
	double unit = bytes && most >= 1024 ? pow(1024, floor(log2(most / TICKS) / 10)) : 1;
	double step = most / TICKS / unit, power = pow(10, floor(log10(step))), digit = step / power;

	return unit * power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 2.5 ? 2.5 : digit <= 5 ? 5 : 10);
}

struct field {
	const struct dr_chart_curves *chart;
	double step, most;  /* of the values */
	double first, last; /* log2 of the jobs */
};

static double x_of(const struct field *field, unsigned point)
{
	double span = field->last - field->first;

	if (!(span > 0))
		return (LEFT + RIGHT) / 2;
	return LEFT + 12 + (log2(field->chart->jobs[point]) - field->first) / span * (RIGHT - LEFT - 24);
}

static double y_of(const struct field *field, double value)
{
	return BOTTOM - value / field->most * (BOTTOM - TOP);
}

static double largest(const struct dr_chart_curves *chart)
{
	double most = 0;

	for (unsigned s = 0; s < chart->n_series; s++)
		for (unsigned i = 0; i < chart->n_points; i++) {
			const struct dr_chart_series *series = &chart->series[s];
			most = fmax(most, series->value[i] * (1 + series->spread[i] / 2));
		}
	return most > 0 ? most : 1;
}

/* As short as it can be said: what is round has few digits. */
static void put_tick(FILE *out, const char *unit, double value)
{
	char text[DR_UNITS_TEXT_MAX];

	if (!(value > 0))
		putc('0', out);
	else if (*unit == 'B')
		fputs(dr_bench_put_whole(text, sizeof text, value), out);
	else if (value >= 1000)
		fprintf(out, "%s%s", dr_units_count(text, sizeof text, (uint64_t)round(value)), unit);
	else
		fprintf(out, "%g%s", value, unit);
}

static void put_grid(FILE *out, const struct field *field)
{
	const struct dr_chart_curves *chart = field->chart;

	for (double value = 0; value <= field->most * 1.001; value += field->step) {
		double y = y_of(field, value);
		fprintf(out, "<path class=\"rule\" d=\"M%.1f %.1fH%.1f\"/>", LEFT, y, RIGHT);
		fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8, y + 4);
		put_tick(out, chart->unit, value);
		fputs("</text>\n", out);
	}
	for (unsigned i = 0; i < chart->n_points; i++)
		fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%u</text>\n", x_of(field, i),
			BOTTOM + 17, chart->jobs[i]);
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">at once</text>\n",
		(LEFT + RIGHT) / 2, BOTTOM + 33);
}

static void put_knee(FILE *out, const struct field *field)
{
	if (field->chart->knee < 0)
		return;
	double x = x_of(field, (unsigned)field->chart->knee);
	fprintf(out, "<path class=\"knee\" d=\"M%.1f %.1fV%.1f\"/>", x, TOP, BOTTOM);
	fprintf(out, "<text class=\"knee\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">knee</text>\n", x,
		TOP - 7);
}

static void put_spread(FILE *out, const struct field *field, const struct dr_chart_series *series, unsigned i)
{
	double half = series->value[i] * series->spread[i] / 2;

	if (half > 0)
		fprintf(out, "<path class=\"spread %s\" d=\"M%.1f %.1fV%.1f\"/>", series->class,
			x_of(field, i), y_of(field, series->value[i] + half),
			y_of(field, fmax(series->value[i] - half, 0)));
}

static void put_series(FILE *out, const struct field *field, const struct dr_chart_series *series)
{
	const struct dr_chart_curves *chart = field->chart;
	char text[DR_BENCH_WORDS_MAX];
	const char *command = "M";

	fprintf(out, "<path class=\"line %s\" d=\"", series->class);
	for (unsigned i = 0; i < chart->n_points; i++) {
		if (!(series->value[i] > 0))
			continue;
		fprintf(out, "%s%.1f %.1f", command, x_of(field, i), y_of(field, series->value[i]));
		command = "L";
	}
	fputs("\"/>\n", out);
	for (unsigned i = 0; i < chart->n_points; i++) {
		if (!(series->value[i] > 0))
			continue;
		put_spread(out, field, series, i);
		fprintf(out,
			"<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%u at once: "
			"%s%s%s</title></circle>\n",
			series->class, x_of(field, i), y_of(field, series->value[i]), chart->jobs[i],
			chart->put_value(text, sizeof text, series->value[i]), *series->name ? ", " : "",
			series->name);
	}
}

/* Names of the series, if there are several, one behind the other above the field. */
static void put_legend(FILE *out, const struct dr_chart_curves *chart)
{
	double x = LEFT;

	for (unsigned s = 0; s < chart->n_series && chart->n_series > 1; s++) {
		const struct dr_chart_series *series = &chart->series[s];
		fprintf(out, "<path class=\"line %s\" d=\"M%.1f 9h18\"/>", series->class, x);
		fprintf(out, "<text x=\"%.1f\" y=\"13\">%s</text>\n", x + 24, series->name);
		x += 24 + 7.0 * (double)strlen(series->name) + 22;
	}
}

void dr_chart_put_curves(FILE *out, const struct dr_chart_curves *chart)
{
	struct field field = {.chart = chart, .step = round_step(largest(chart), *chart->unit == 'B')};

	field.most = field.step * ceil(largest(chart) / field.step - 0.001);
	field.first = chart->n_points ? log2(chart->jobs[0]) : 0;
	field.last = chart->n_points ? log2(chart->jobs[chart->n_points - 1]) : 0;
	begin(out, chart->title, HEIGHT);
	put_grid(out, &field);
	put_knee(out, &field);
	put_legend(out, chart);
	for (unsigned s = chart->n_series; s-- > 0;)
		put_series(out, &field, &chart->series[s]);
	fputs("</svg>\n", out);
}

/* ---- bars -------------------------------------------------------------------------- */

void dr_chart_put_bars(FILE *out, const char *title, const char *class, const struct dr_chart_bar *bars,
		       unsigned n)
{
	double most = 0;

	for (unsigned i = 0; i < n; i++)
		most = fmax(most, bars[i].value);
	begin(out, title, BAR_STEP * n + 4);
	for (unsigned i = 0; i < n; i++) {
		double y = BAR_STEP * i + 4;
		double width = most > 0 ? bars[i].value / most * (DR_CHART_WIDTH - BAR_LEFT - BAR_TEXT) : 0;
		if (bars[i].value > 0)
			width = fmax(width, 2);
		fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", BAR_LEFT - 10, y + 14);
		dr_chart_put_text(out, bars[i].label);
		fprintf(
		    out,
		    "</text><rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" rx=\"2\"/>",
		    class, BAR_LEFT, y, width);
		fprintf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">", BAR_LEFT + width + 7, y + 14);
		dr_chart_put_text(out, bars[i].text);
		fputs("</text>\n", out);
	}
	fputs("</svg>\n", out);
}
