/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What drover bench found, as a page for a browser: one file that needs nothing else. Charts
 * are inline SVG, nothing in it runs, and its Content-Security-Policy says so, so that a name from
 * the tree could do nothing even if it got out of where it belongs.
 *
 * Every figure is a <data> element with the exact value; all of them are in the JSON object at the end as well.
 */
#include "cli/bench_report.h"

#include "base/units.h"
#include "cli/bench_chart.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<title>drover bench</title>\n"
    "<style>\n"
    ":root{--page:#f6f7f9;--card:#fff;--ink:#1b2330;--soft:#5b6675;--rule:#dfe3e9;--a:#2464c8;--b:#c2601a;"
    "--code:#eef1f5}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;--ink:#e4e8ee;--soft:#9aa6b5;"
    "--rule:#303947;--a:#6ea4f5;--b:#ee9a58;--code:#12161c}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif;"
    "font-variant-numeric:tabular-nums}\n"
    "main{max-width:1080px;margin:0 auto;padding:28px 20px 48px}\n"
    "h1{font-size:24px;line-height:1.3;margin:0 0 4px;overflow-wrap:anywhere}\n"
    "h2{font-size:18px;margin:36px 0 12px}\n"
    "h3{font-size:15px;margin:0}\n"
    "p{margin:0}\n"
    ".soft,figcaption{color:var(--soft);font-size:13px}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-"
    "top:20px}\n"
    ".card,.tile,.warning{background:var(--card);border:1px solid "
    "var(--rule);border-radius:8px;padding:16px}\n"
    ".tile b{display:block;font-size:26px;line-height:1.25;font-weight:600}\n"
    ".warning{border-left:4px solid var(--b);margin-top:20px}\n"
    "figure{margin:14px 0 0}\n"
    "pre{background:var(--code);border:1px solid var(--rule);border-radius:6px;padding:12px;margin:12px 0 0;"
    "white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace}\n"
    "details{margin-top:12px}\n"
    "summary{cursor:pointer;color:var(--soft);font-size:13px}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%;font-size:13px;margin-top:8px}\n"
    "th,td{text-align:right;padding:3px 8px;border-bottom:1px solid var(--rule);white-space:nowrap}\n"
    "th{font-weight:500;color:var(--soft)}\n"
    "tr.at td{font-weight:600}\n"
    ".grid+.soft{margin-top:12px}\n"
    "ul{margin:0;padding-left:20px}\n"
    "svg{display:block;width:100%;height:auto}\n"
    "svg text{font:12px system-ui,sans-serif;fill:var(--soft)}\n"
    "svg text.value{fill:var(--ink)}\n"
    "svg path{fill:none}\n"
    "svg .rule{stroke:var(--rule)}\n"
    "svg path.knee{stroke:var(--soft);stroke-dasharray:3 4}\n"
    "svg .line{stroke-width:2;stroke-linejoin:round}\n"
    "svg .spread{stroke-width:1.5;opacity:.6}\n"
    "svg path.a{stroke:var(--a)}svg circle.a,svg rect.a{fill:var(--a)}\n"
    "svg path.b{stroke:var(--b)}svg circle.b,svg rect.b{fill:var(--b)}\n"
    "@media(max-width:520px){main{padding:20px 12px 32px}.card,.tile{padding:12px}.tile b{font-size:21px}"
    "svg{overflow:visible}svg text{font-size:14px}}\n"
    "@media print{details{display:none}.card,.tile{break-inside:avoid}}\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<main>\n";

/* As the JSON object has it. */
static void put_data(FILE *out, double value, const char *text)
{
	fprintf(out, "<data value=\"%.15g\">", round(value * 1000) / 1000);
	dr_chart_put_text(out, text);
	fputs("</data>", out);
}

static void put_duration(FILE *out, double seconds)
{
	char text[DR_UNITS_TEXT_MAX];

	put_data(out, seconds, dr_bench_put_seconds(text, sizeof text, seconds));
}

static void put_count(FILE *out, double n, double error)
{
	char text[DR_BENCH_WORDS_MAX];

	put_data(out, round(n), dr_bench_put_about(text, sizeof text, n, error));
}

static void put_bytes(FILE *out, double bytes)
{
	char text[DR_UNITS_TEXT_MAX];

	put_data(out, round(bytes),
		 dr_units_bytes(text, sizeof text, bytes > 0 ? (uint64_t)round(bytes) : 0));
}

/* ---- the top ----------------------------------------------------------------------- */

static void put_title(FILE *out, const struct dr_bench_report *report)
{
	const char *to = report->options->dst ? report->options->dst : report->link;

	fputs("<header>\n<p class=\"soft\">drover bench</p>\n<h1>", out);
	dr_chart_put_text(out, report->options->src);
	if (to) {
		fputs(" &#x2192; ", out);
		dr_chart_put_text(out, to);
	}
	fputs("</h1>\n", out);
}

static void put_link(FILE *out, const struct dr_bench_report *report)
{
	char text[DR_BENCH_WORDS_MAX];

	if (!report->link)
		return;
	fputs("; link to ", out);
	dr_chart_put_text(out, report->link);
	fputs(": ", out);
	put_data(out, report->options->link_bytes_per_s,
		 dr_bench_put_rate(text, sizeof text, DR_BENCH_BYTES, report->options->link_bytes_per_s));
	fputs(", round trip ", out);
	put_data(out, report->options->link_rtt_ms,
		 dr_bench_put_latency(text, sizeof text, report->options->link_rtt_ms));
}

static void put_course(FILE *out, const struct dr_bench_report *report)
{
	const struct dr_bench_result *result = report->result;
	char date[64] = "";
	struct tm local;

	if (localtime_r(&report->made_s, &local))
		strftime(date, sizeof date, "%Y-%m-%d %H:%M", &local);
	fprintf(out, "<p class=\"soft\">%s, drover " DROVER_VERSION "; %s", date, result->src_type);
	if (report->options->dst)
		fprintf(out, " to %s", result->dst_type);
	fprintf(out, ", %u %s; measured in ", result->processors,
		result->processors == 1 ? "processor" : "processors");
	put_duration(out, result->elapsed_s);
	put_link(out, report);
	fputs("</p>\n</header>\n", out);
	if (result->stopped)
		fputs("<p class=\"warning\">It was stopped before its end: this is of what it had until "
		      "then.</p>\n",
		      out);
}

static void put_estimate_tile(FILE *out, const char *name, const struct dr_bench_estimate *estimate)
{
	fprintf(out, "<div class=\"tile\"><span class=\"soft\">%s</span><b>", name);
	if (estimate->known) {
		put_duration(out, estimate->s);
		fputs("</b><span class=\"soft\">", out);
		put_duration(out, estimate->low_s);
		fputs(" to ", out);
		put_duration(out, estimate->high_s);
		fputs("</span></div>\n", out);
	} else {
		fputs("?</b><span class=\"soft\">not known</span></div>\n", out);
	}
}

static void put_tiles(FILE *out, const struct dr_bench_report *report)
{
	const struct dr_bench_result *result = report->result;
	char text[DR_UNITS_TEXT_MAX];

	fputs("<div class=\"tiles\">\n<div class=\"tile\"><span class=\"soft\">best at once</span><b>", out);
	put_count(out, result->jobs, 0);
	fprintf(out, " jobs</b><span class=\"soft\">-j %u", result->jobs);
	if (result->block_bytes)
		fprintf(out, ", blocks of %s",
			dr_bench_put_whole(text, sizeof text, (double)result->block_bytes));
	fputs("</span></div>\n", out);
	put_estimate_tile(out, dr_bench_initial_name(report), &result->initial);
	put_estimate_tile(out, dr_bench_final_name(report), &result->final);
	fprintf(out, "<div class=\"tile\"><span class=\"soft\">limited by</span><b>%s</b></div>\n</div>\n",
		dr_limiter_name(result->bottleneck));
}

static int put_command(FILE *out, const struct dr_bench_report *report)
{
	char *command = dr_bench_command(report);

	if (!command)
		return -ENOMEM;
	fputs("<pre id=\"command\">", out);
	dr_chart_put_text(out, command);
	fputs("</pre>\n", out);
	free(command);
	return 0;
}

/* ---- where the time goes ----------------------------------------------------------- */

static void put_parts(FILE *out, const char *name, const struct dr_bench_estimate *estimate)
{
	struct dr_chart_bar bars[DR_BENCH_PART_COUNT];
	unsigned n = 0;

	if (!estimate->known)
		return;
	for (int part = 0; part < DR_BENCH_PART_COUNT; part++) {
		struct dr_chart_bar *bar = &bars[n];
		if (!(estimate->part_s[part] > 0))
			continue;
		snprintf(bar->label, sizeof bar->label, "%s", dr_bench_part_name((enum dr_bench_part)part));
		dr_bench_put_seconds(bar->text, sizeof bar->text, estimate->part_s[part]);
		bar->value = estimate->part_s[part];
		n++;
	}
	fprintf(out, "<div class=\"card\"><h3>%s</h3>\n<figure>", name);
	dr_chart_put_bars(out, name, "a", bars, n);
	fputs("</figure></div>\n", out);
}

static void put_time(FILE *out, const struct dr_bench_report *report)
{
	if (!report->result->initial.known && !report->result->final.known)
		return;
	fputs("<section>\n<h2>Where the time will go</h2>\n<div class=\"grid\">\n", out);
	put_parts(out, dr_bench_initial_name(report), &report->result->initial);
	put_parts(out, dr_bench_final_name(report), &report->result->final);
	fputs("</div>\n</section>\n", out);
}

/* ---- the tree ---------------------------------------------------------------------- */

static void put_error(FILE *out, double error)
{
	char text[DR_BENCH_WORDS_MAX];

	if (!(error > 0))
		return;
	fputs(" (&#xb1;", out);
	put_data(out, error, dr_bench_put_share(text, sizeof text, error));
	putc(')', out);
}

static void put_tree_counts(FILE *out, const struct dr_bench_tree *tree)
{
	char text[DR_BENCH_WORDS_MAX];

	fputs("<p>", out);
	put_count(out, tree->files, tree->files_error);
	fputs(" files", out);
	put_error(out, tree->files_error);
	fputs(", ", out);
	put_count(out, tree->dirs, tree->files_error);
	fputs(" directories, ", out);
	put_count(out, tree->other, tree->files_error);
	fputs(tree->other == 1 ? " other, " : " others, ", out);
	put_bytes(out, tree->bytes);
	put_error(out, tree->bytes_error);
	fputs("; ", out);
	if (tree->complete)
		fputs("all of it was seen", out);
	else
		fprintf(out, "estimated from %s of its directories",
			dr_bench_put_share(text, sizeof text, tree->seen_share));
	fputs(". Entries of a directory: median ", out);
	put_count(out, tree->median_dir, 0);
	fputs(", most ", out);
	put_count(out, (double)tree->largest_dir, 0);
	fputs(".</p>\n", out);
}

static void put_histogram(FILE *out, const struct dr_bench_tree *tree, bool bytes)
{
	struct dr_chart_bar bars[DR_BENCH_SIZES];
	const char *title = bytes ? "bytes, by the size of their file" : "files, by their size";
	unsigned first, end;

	dr_bench_size_classes(tree, &first, &end);
	for (unsigned i = first; i < end; i++) {
		struct dr_chart_bar *bar = &bars[i - first];
		bar->value = bytes ? tree->size_bytes[i] : tree->size_files[i];
		dr_bench_put_size_class(bar->label, sizeof bar->label, i);
		if (bytes)
			dr_units_bytes(bar->text, sizeof bar->text,
				       bar->value > 0 ? (uint64_t)bar->value : 0);
		else
			dr_bench_put_about(bar->text, sizeof bar->text, bar->value, tree->files_error);
	}
	fprintf(out, "<div class=\"card\"><h3>%s</h3>\n<figure>",
		bytes ? "Bytes by file size" : "Files by size");
	dr_chart_put_bars(out, title, bytes ? "b" : "a", bars, end - first);
	fputs("</figure></div>\n", out);
}

static void put_tree(FILE *out, const struct dr_bench_tree *tree)
{
	fputs("<section id=\"tree\">\n<h2>The tree</h2>\n", out);
	put_tree_counts(out, tree);
	fputs("<div class=\"grid\" style=\"margin-top:12px\">\n", out);
	put_histogram(out, tree, false);
	put_histogram(out, tree, true);
	fputs("</div>\n</section>\n", out);
}

/* ---- what was measured ------------------------------------------------------------- */

static char *put_entries_rate(char *buf, size_t size, double per_s)
{
	return dr_bench_put_rate(buf, size, DR_BENCH_ENTRIES, per_s);
}

static char *put_bytes_rate(char *buf, size_t size, double per_s)
{
	return dr_bench_put_rate(buf, size, DR_BENCH_BYTES, per_s);
}

static struct dr_chart_curves chart_of(const struct dr_bench_curve *curve, const char *title)
{
	struct dr_chart_curves chart = {
	    .title = title, .n_points = curve->n_points, .knee = (int)curve->knee};

	for (unsigned i = 0; i < curve->n_points; i++)
		chart.jobs[i] = curve->points[i].jobs;
	return chart;
}

static void put_throughput(FILE *out, enum dr_bench_kind kind, const struct dr_bench_curve *curve)
{
	struct dr_chart_curves chart = chart_of(curve, "throughput");

	chart.n_series = 1;
	chart.series[0] = (struct dr_chart_series){.name = "", .class = "a"};
	for (unsigned i = 0; i < curve->n_points; i++) {
		chart.series[0].value[i] = curve->points[i].per_s;
		chart.series[0].spread[i] = curve->points[i].spread;
	}
	bool bytes = dr_bench_unit_of(kind) == DR_BENCH_BYTES;
	chart.unit = bytes ? "B" : "";
	chart.put_value = bytes ? put_bytes_rate : put_entries_rate;
	fprintf(out, "<figure><figcaption>%s per second</figcaption>",
		dr_bench_unit_name(dr_bench_unit_of(kind)));
	dr_chart_put_curves(out, &chart);
	fputs("</figure>\n", out);
}

static void put_latencies(FILE *out, const struct dr_bench_curve *curve)
{
	struct dr_chart_curves chart = chart_of(curve, "latency");

	chart.knee = -1;
	chart.n_series = 2;
	chart.unit = " ms";
	chart.put_value = dr_bench_put_latency;
	chart.series[0] = (struct dr_chart_series){.name = "median", .class = "a"};
	chart.series[1] = (struct dr_chart_series){.name = "95 % are below", .class = "b"};
	for (unsigned i = 0; i < curve->n_points; i++) {
		chart.series[0].value[i] = curve->points[i].median_ms;
		chart.series[1].value[i] = curve->points[i].p95_ms;
	}
	fputs("<figure><figcaption>latency of one</figcaption>", out);
	dr_chart_put_curves(out, &chart);
	fputs("</figure>\n", out);
}

static void put_row(FILE *out, enum dr_bench_unit unit, const struct dr_bench_point *point, bool knee)
{
	char text[DR_BENCH_WORDS_MAX];

	fprintf(out, "<tr%s><td>%u</td><td>", knee ? " class=\"at\"" : "", point->jobs);
	put_data(out, point->per_s, dr_bench_put_rate(text, sizeof text, unit, point->per_s));
	fputs("</td><td>", out);
	put_data(out, point->median_ms, dr_bench_put_latency(text, sizeof text, point->median_ms));
	fputs("</td><td>", out);
	put_data(out, point->p95_ms, dr_bench_put_latency(text, sizeof text, point->p95_ms));
	fputs("</td><td>", out);
	put_data(out, point->spread,
		 point->runs > 1 ? dr_bench_put_share(text, sizeof text, point->spread) : "-");
	fprintf(out, "</td><td>%u</td></tr>\n", point->runs);
}

static void put_table(FILE *out, enum dr_bench_kind kind, const struct dr_bench_curve *curve)
{
	fputs("<details><summary>figures</summary><div class=\"wide\"><table>\n<tr><th>at "
	      "once</th><th>rate</th>"
	      "<th>median</th><th>95 %</th><th>spread</th><th>runs</th></tr>\n",
	      out);
	for (unsigned i = 0; i < curve->n_points; i++)
		put_row(out, dr_bench_unit_of(kind), &curve->points[i], i == curve->knee);
	fputs("</table></div></details>\n", out);
}

static bool is_told(const struct dr_bench_report *report, enum dr_bench_kind kind, bool measured)
{
	const struct dr_bench_curve *curve = &report->result->curve[kind];

	return dr_bench_is_shown(report, kind) && (curve->measured && curve->n_points) == measured;
}

static void put_curve(FILE *out, enum dr_bench_kind kind, const struct dr_bench_curve *curve)
{
	fprintf(out, "<div class=\"card\"><h3>%s</h3>\n<p class=\"soft\">%s%s</p>\n",
		dr_bench_kind_name(kind), dr_bench_kind_words(kind),
		curve->noisy ? "; the knee is within the noise" : "");
	put_throughput(out, kind, curve);
	put_latencies(out, curve);
	put_table(out, kind, curve);
	fputs("</div>\n", out);
}

static void put_why_not(FILE *out, enum dr_bench_kind kind, const char *why_not)
{
	fprintf(out, "<p class=\"soft\">Not measured: %s (", dr_bench_kind_name(kind));
	dr_chart_put_text(out, why_not);
	fputs(")</p>\n", out);
}

static void put_curves(FILE *out, const struct dr_bench_report *report)
{
	fputs("<section>\n<h2>Measured, with more and more at once</h2>\n<div class=\"grid\">\n", out);
	for (int i = 0; i < DR_BENCH_KIND_COUNT; i++)
		if (is_told(report, (enum dr_bench_kind)i, true))
			put_curve(out, (enum dr_bench_kind)i, &report->result->curve[i]);
	fputs("</div>\n", out);
	for (int i = 0; i < DR_BENCH_KIND_COUNT; i++)
		if (is_told(report, (enum dr_bench_kind)i, false))
			put_why_not(out, (enum dr_bench_kind)i, report->result->curve[i].why_not);
	fputs("</section>\n", out);
}

/* ---- the end ----------------------------------------------------------------------- */

static void put_assumptions(FILE *out, const struct dr_bench_result *result)
{
	if (!result->n_assumptions)
		return;
	fputs("<section>\n<h2>What the estimates assume</h2>\n<ul>\n", out);
	for (unsigned i = 0; i < result->n_assumptions; i++) {
		fputs("<li>", out);
		dr_chart_put_text(out, result->assumption[i]);
		fputs("</li>\n", out);
	}
	fputs("</ul>\n</section>\n", out);
}

#define DIGITS 15 /* as all of drover's JSON has */

/* In a script element nothing is escaped but by the language in it: in JSON, \u003c cannot end the element. */
static int put_json(FILE *out, const struct dr_bench_report *report)
{
	json_t *object = dr_bench_report_json(report);
	char *text = object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS)) : NULL;

	json_decref(object);
	if (!text)
		return -ENOMEM;
	fputs("<script type=\"application/json\" id=\"drover-bench\">\n", out);
	for (const char *at = text; *at; at++)
		if (*at == '<' || *at == '>' || *at == '&')
			fprintf(out, "\\u%04x", (unsigned)*at);
		else
			putc(*at, out);
	fputs("\n</script>\n", out);
	free(text);
	return 0;
}

int dr_bench_report_html(FILE *out, const struct dr_bench_report *report)
{
	fputs(head, out);
	put_title(out, report);
	put_course(out, report);
	put_tiles(out, report);
	int r = put_command(out, report);
	if (r < 0)
		return r;
	put_time(out, report);
	put_tree(out, &report->result->tree);
	put_curves(out, report);
	put_assumptions(out, report->result);
	r = put_json(out, report);
	fputs("</main>\n</body>\n</html>\n", out);
	return r;
}
