/* SPDX-License-Identifier: MIT */
/*
 * The dependency graph: one node a fixture, an arrow from each to what it is built from. The critical path is the chain of
 * fixtures that one waits for longest when everything is built anew and all builds run side by side.
 */
#include "fixctl/graph.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/vector.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/instance.h"
#include "fixctl/markup.h"
#include "fixd.h"
#include "wire/wire.h"

#define NONE SIZE_MAX

enum { BOX_WIDTH = 230, BOX_HEIGHT = 64, GAP_X = 90, GAP_Y = 24, MARGIN = 20, TITLE_MAX = 26 };

struct node {
	const char *name, *scope, *state;
	uint64_t size;
	double build_s; /* the longest of its instances */
	size_t *depends;
	size_t n_depends;
	size_t layer;  /* how many fixtures stand below it, at most */
	double path_s; /* to build it and everything it needs */
	size_t next;   /* on that path, or NONE */
	bool critical, measured;
	size_t row;
};

struct graph {
	struct node *nodes;
	size_t n;
	struct vector names; /* struct node, by name */
	size_t n_layers;
	size_t *rows; /* of each layer, once they are placed */
};

/* name, name[param] and name[param] @ key are all of one fixture. */
static int graph_by_name(const void *title, const void *node)
{
	const char *name = ((const struct node *)node)->name;
	size_t n = strcspn(title, "[ ");
	int order = strncmp(title, name, n);

	return order ? order : name[n] ? -1 : 0;
}

static size_t find_node(const struct graph *g, const char *title)
{
	bool found;
	size_t at = vector_search(&g->names, title, graph_by_name, &found);

	return found ? (size_t)((struct node *)g->names.all[at] - g->nodes) : NONE;
}

static void add_node(struct graph *g, const json_t *f)
{
	const char *name = ctl_string(f, "name");
	bool found;
	size_t at = vector_search(&g->names, name, graph_by_name, &found);

	/* The same name in two sessions is drawn once. */
	if (found)
		return;
	g->nodes[g->n] = (struct node){ .name = name, .scope = ctl_string(f, "scope"), .state = "absent", .next = NONE };
	vector_insert(&g->names, at, &g->nodes[g->n++]);
}

static void add_edges(const struct graph *g, struct node *from, const json_t *titles)
{
	for (size_t k = 0; k < json_array_size(titles); k++) {
		size_t to = find_node(g, json_string_value(json_array_get(titles, k)));
		bool known = to == NONE || &g->nodes[to] == from;

		for (size_t m = 0; m < from->n_depends; m++)
			known |= from->depends[m] == to;
		if (known)
			continue;
		from->depends = xrealloc(from->depends, (from->n_depends + 1) * sizeof *from->depends);
		from->depends[from->n_depends++] = to;
	}
}

/* Of several instances the one that is to be looked at first gives the colour. */
static size_t graph_rank_of(const char *state)
{
	static const char *const states[] = { "failed", "building", "checking", "stale", "held", "ready", "absent" };
	size_t i = 0;

	while (i < ELEMENTSOF(states) && strcmp(states[i], state) != 0)
		i++;
	return i;
}

static void add_instance(struct graph *g, const json_t *i)
{
	size_t k = find_node(g, ctl_string(i, "name"));
	struct node *n = k == NONE ? NULL : &g->nodes[k];

	if (!n)
		return;
	n->size += (uint64_t)ctl_int(i, "size");
	if (ctl_real(i, "build_s") > n->build_s)
		n->build_s = ctl_real(i, "build_s");
	/* Clones come and go: how they are together is the state of the service. */
	if (!instance_is_clone(i) && graph_rank_of(ctl_string(i, "state")) < graph_rank_of(n->state))
		n->state = ctl_string(i, "state");
	add_edges(g, n, json_object_get(i, "depends"));
}

static struct graph make_graph(const json_t *list, const json_t *status)
{
	const json_t *fixtures = json_object_get(list, "fixtures"), *sessions = json_object_get(status, "sessions");
	struct graph g = { .nodes = xcalloc(json_array_size(fixtures) + 1, sizeof *g.nodes) };

	for (size_t k = 0; k < json_array_size(fixtures); k++)
		add_node(&g, json_array_get(fixtures, k));
	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);

		add_edges(&g, &g.nodes[find_node(&g, ctl_string(f, "name"))], json_object_get(f, "depends"));
	}
	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *instances = json_object_get(json_array_get(sessions, s), "instances");

		for (size_t k = 0; k < json_array_size(instances); k++)
			add_instance(&g, json_array_get(instances, k));
	}
	return g;
}

/* There is no cycle: the daemon has none in its file, and what clients build from exists before. */
static void graph_measure(struct graph *g, size_t i)
{
	struct node *n = &g->nodes[i];

	if (n->measured)
		return;
	n->measured = true;
	for (size_t k = 0; k < n->n_depends; k++) {
		const struct node *to = &g->nodes[n->depends[k]];

		graph_measure(g, n->depends[k]);
		if (to->layer + 1 > n->layer)
			n->layer = to->layer + 1;
		if (n->next == NONE || to->path_s > g->nodes[n->next].path_s)
			n->next = n->depends[k];
	}
	n->path_s = n->build_s + (n->next == NONE ? 0 : g->nodes[n->next].path_s);
	if (n->layer + 1 > g->n_layers)
		g->n_layers = n->layer + 1;
}

/* Returns its length in seconds. */
static double mark_critical(struct graph *g)
{
	size_t longest = NONE;

	for (size_t i = 0; i < g->n; i++) {
		graph_measure(g, i);
		if (longest == NONE || g->nodes[i].path_s > g->nodes[longest].path_s)
			longest = i;
	}
	if (longest == NONE || g->nodes[longest].path_s <= 0)
		return 0;
	for (size_t i = longest; i != NONE; i = g->nodes[i].next)
		g->nodes[i].critical = true;
	return g->nodes[longest].path_s;
}

static bool critical_edge(const struct node *from, const struct graph *g, size_t to)
{
	return from->critical && g->nodes[to].critical && from->next == to;
}

static const char *graph_color_of(const char *state)
{
	static const char *const colors[][2] = {
		{ "ready", "#d8f0d8" }, { "held", "#d8f0d8" }, { "failed", "#f6d0d0" }, { "absent", "#eeeeee" }
	};

	for (size_t i = 0; i < ELEMENTSOF(colors); i++) {
		if (!strcmp(colors[i][0], state))
			return colors[i][1];
	}
	return "#fff2cc";
}

/* "64.0 KiB, 1.2 s, ready" */
static char *facts(const struct node *n)
{
	char size[32], build[32];

	if (n->size == 0 && n->build_s <= 0)
		return xstrdup(n->state);
	return xasprintf("%s, %s, %s", format_size(size, sizeof size, n->size),
			 format_duration(build, sizeof build, (int64_t)(n->build_s * 1e9)), n->state);
}

static void print_quoted(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('"');
}

static void print_dot(const struct graph *g, double seconds)
{
	char total[32];

	puts("digraph fixtures {\n\trankdir = LR;\n\tnode [shape = box, style = \"rounded,filled\", fontname = \"sans-serif\"];");
	if (seconds > 0)
		printf("\tlabel = \"critical path: %s\";\n", format_duration(total, sizeof total, (int64_t)(seconds * 1e9)));
	for (size_t i = 0; i < g->n; i++) {
		const struct node *n = &g->nodes[i];
		_cleanup_free_ char *about = facts(n), *label = xasprintf("%s [%s]\n%s", n->name, n->scope, about);

		putchar('\t');
		print_quoted(n->name);
		printf(" [label = ");
		print_quoted(label);
		printf(", fillcolor = \"%s\"%s];\n", graph_color_of(n->state), n->critical ? ", color = \"#c00000\", penwidth = 2" : "");
		for (size_t k = 0; k < n->n_depends; k++) {
			putchar('\t');
			print_quoted(n->name);
			printf(" -> ");
			print_quoted(g->nodes[n->depends[k]].name);
			puts(critical_edge(n, g, n->depends[k]) ? " [color = \"#c00000\", penwidth = 2];" : ";");
		}
	}
	puts("}");
}

static int x_of(const struct node *n)
{
	return MARGIN + (int)n->layer * (BOX_WIDTH + GAP_X);
}

static int y_of(const struct node *n)
{
	/* Every second column is half a box lower: that needs less room for arrows. */
	return MARGIN + (int)n->row * (BOX_HEIGHT + GAP_Y) + (int)(n->layer % 2) * (BOX_HEIGHT + GAP_Y) / 2;
}

/* Each layer is a column; returns how many rows there are. */
static size_t place(struct graph *g)
{
	size_t rows = 1;

	g->rows = xcalloc(g->n_layers + 1, sizeof *g->rows);

	for (size_t layer = 0; layer < g->n_layers; layer++) {
		size_t row = 0;

		for (size_t i = 0; i < g->n; i++) {
			if (g->nodes[i].layer == layer)
				g->nodes[i].row = row++;
		}
		g->rows[layer] = row;
		if (row > rows)
			rows = row;
	}
	return rows;
}

/* Where an arrow at that height passes a column: between two boxes, above all or below all. */
static int lane_of(const struct graph *g, size_t layer, int y)
{
	int step = BOX_HEIGHT + GAP_Y, first = MARGIN + (int)(layer % 2) * step / 2 - GAP_Y / 2, last = first + (int)g->rows[layer] * step;

	if (y <= first)
		return first;
	return y >= last ? y : first + (y - first + step / 2) / step * step;
}

/* From the left side of a box to the right side of another one, in the corridors between columns and in lanes through them. */
static void print_edge(FILE *out, const struct graph *g, const struct node *from, const struct node *to, bool critical)
{
	int x = x_of(from), y = y_of(from) + BOX_HEIGHT / 2, end = y_of(to) + BOX_HEIGHT / 2;

	fprintf(out, "<path d=\"M%d %d", x, y);
	for (size_t layer = from->layer - 1; layer > to->layer; layer--) {
		int lane = lane_of(g, layer, y + (end - y) / (int)(layer + 1 - to->layer));

		fprintf(out, " C%d %d %d %d %d %d", x - GAP_X / 2, y, x - GAP_X / 2, lane, x - GAP_X, lane);
		x -= GAP_X + BOX_WIDTH;
		y = lane;
		fprintf(out, " L%d %d", x, y);
	}
	fprintf(out, " C%d %d %d %d %d %d\" fill=\"none\" stroke=\"%s\" stroke-width=\"%d\" marker-end=\"url(#arrow)\"/>\n", x - GAP_X / 2,
		y, x - GAP_X / 2, end, x - GAP_X + 7, end, critical ? "#c00000" : "#888888", critical ? 2 : 1);
}

static void print_box(FILE *out, const struct node *n)
{
	_cleanup_free_ char *about = facts(n);

	fprintf(out, "<g><title>");
	markup_text(out, n->name);
	fprintf(out, "</title><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"%s\" stroke=\"%s\" stroke-width=\"%d\"/>",
		x_of(n), y_of(n), BOX_WIDTH, BOX_HEIGHT, graph_color_of(n->state), n->critical ? "#c00000" : "#666666",
		n->critical ? 2 : 1);
	fprintf(out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">", x_of(n) + 10, y_of(n) + 21);
	markup_end_of(out, n->name, TITLE_MAX);
	fprintf(out, "</text><text x=\"%d\" y=\"%d\">[", x_of(n) + 10, y_of(n) + 38);
	markup_end_of(out, n->scope, TITLE_MAX);
	fprintf(out, "]</text><text x=\"%d\" y=\"%d\">", x_of(n) + 10, y_of(n) + 54);
	markup_end_of(out, about, TITLE_MAX + 10);
	fputs("</text></g>\n", out);
}

static void print_svg(FILE *out, struct graph *g, double seconds)
{
	size_t rows = place(g);
	int width = 2 * MARGIN + (int)(g->n_layers ? g->n_layers : 1) * (BOX_WIDTH + GAP_X) - GAP_X;
	int height = 2 * MARGIN + (int)rows * (BOX_HEIGHT + GAP_Y) + (BOX_HEIGHT + GAP_Y) / 2;
	char total[32];

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
		"<defs><marker id=\"arrow\" markerWidth=\"8\" markerHeight=\"8\" refX=\"6\" refY=\"4\" orient=\"auto\" markerUnits=\"userSpaceOnUse\">"
		"<path d=\"M0 0 L8 4 L0 8 z\" fill=\"#666666\"/></marker></defs>\n",
		width, height, width, height);
	for (size_t i = 0; i < g->n; i++) {
		for (size_t k = 0; k < g->nodes[i].n_depends; k++)
			print_edge(out, g, &g->nodes[i], &g->nodes[g->nodes[i].depends[k]],
				   critical_edge(&g->nodes[i], g, g->nodes[i].depends[k]));
	}
	for (size_t i = 0; i < g->n; i++)
		print_box(out, &g->nodes[i]);
	if (seconds > 0)
		fprintf(out, "<text x=\"%d\" y=\"%d\" fill=\"#c00000\">critical path: %s</text>\n", MARGIN, height - 10,
			format_duration(total, sizeof total, (int64_t)(seconds * 1e9)));
	fputs("</svg>\n", out);
}

static void graph_deinit(struct graph *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->nodes[i].depends);
	free(g->rows);
	free(g->nodes);
	vector_deinit(&g->names);
}

void graph_write_svg(FILE *out, const json_t *list, const json_t *status)
{
	struct graph g = make_graph(list, status);
	double seconds = mark_critical(&g);

	print_svg(out, &g, seconds);
	graph_deinit(&g);
}

static void write_dot(const json_t *list, const json_t *status)
{
	struct graph g = make_graph(list, status);
	double seconds = mark_critical(&g);

	print_dot(&g, seconds);
	graph_deinit(&g);
}

static void write_json(const json_t *list, const json_t *status)
{
	struct graph g = make_graph(list, status);
	double seconds = mark_critical(&g);
	json_t *all = json_pack("{s:f, s:[]}", "critical_path_s", seconds, "fixtures"), *fixtures = json_object_get(all, "fixtures");

	for (size_t k = 0; k < g.n; k++) {
		const struct node *n = &g.nodes[k];
		json_t *depends = json_array();

		for (size_t d = 0; d < n->n_depends; d++)
			json_array_append_new(depends, json_string(g.nodes[n->depends[d]].name));
		json_array_append_new(fixtures, json_pack("{s:s, s:s, s:s, s:f, s:I, s:b, s:o}", "name", n->name, "scope", n->scope,
							  "state", n->state, "build_s", n->build_s, "size", (json_int_t)n->size, "critical",
							  n->critical, "depends", depends));
	}
	ctl_print_json(all);
	json_decref(all);
	graph_deinit(&g);
}

static int graph_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "format", required_argument, NULL, 'f' },
						 { "json", no_argument, NULL, 'j' },
						 { NULL, 0, NULL, 0 } };
	json_t *list = NULL, *status = NULL;
	bool svg = false;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "f:j", options, NULL)) >= 0) {
		if (c != 'f' && c != 'j')
			ctl_bad_option("graph");
		ctl->json |= c == 'j' || !strcmp(optarg, "json");
		if (c == 'f' && strcmp(optarg, "dot") && strcmp(optarg, "svg") && strcmp(optarg, "json"))
			ctl_misuse("graph", "--format=%s: expected one of dot, svg, json", optarg);
		svg = c == 'f' && !strcmp(optarg, "svg");
	}
	ctl_expect("graph", argc, argv, 0, 0, NULL);
	f = ctl_open_to_show(ctl);
	code = ctl_query(f, WIRE_TYPE_list, "", &list);
	if (code == 0)
		code = ctl_query(f, WIRE_TYPE_status, "", &status);
	fixd_close(f);
	if (code == 0 && ctl->json) {
		write_json(list, status);
	} else if (code == 0 && svg) {
		puts("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
		graph_write_svg(stdout, list, status);
	} else if (code == 0) {
		write_dot(list, status);
	}
	json_decref(list);
	json_decref(status);
	return code;
}

const struct fixctl_command command_graph = {
	.name = "graph",
	.json = true,
	.run = graph_run,
	.summary = "the dependency graph",
	.help = "graph [--format=dot|svg|json]\n"
		"Draws which fixture is built from which, with scope, size, build time and state; the critical path, for which\n"
		"one waits longest when everything is built anew, is red.\n"
		"\n"
		"  -f, --format=FORMAT  dot (default; for graphviz), svg, or json\n"
		"  -j, --json           the same as --format=json",
};
