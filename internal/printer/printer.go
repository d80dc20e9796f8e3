// Package printer prints NodeContainers one after the other, as kubectl get -w does.
package printer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/liggitt/tabwriter"
	"sigs.k8s.io/yaml"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Formats of a Printer.
const (
	Table = "table" // one line each time, the columns aligned across all lines, as kubectl get -w does
	Wide  = "wide"  // the same with more columns
	YAML  = "yaml"  // a document each time
	JSON  = "json"  // an object on one line each time
)

// Printer prints NodeContainers one after the other, each as it is then. It belongs to one goroutine.
type Printer struct {
	one func(*v1alpha1.NodeContainer) error
}

// New returns a Printer to out in a format; the empty one is Table.
func New(out io.Writer, format string) (*Printer, error) {
	switch format {
	case Table, "":
		return &Printer{newTable(out, tableColumns).line}, nil
	case Wide:
		return &Printer{newTable(out, slices.Concat(tableColumns, wideColumns)).line}, nil
	case YAML:
		return &Printer{func(c *v1alpha1.NodeContainer) error { return printYAML(out, c) }}, nil
	case JSON:
		return &Printer{func(c *v1alpha1.NodeContainer) error { return json.NewEncoder(out).Encode(c) }}, nil
	}
	return nil, fmt.Errorf("output format %q: not one of %s, %s, %s, %s", format,
		Table, Wide, YAML, JSON)
}

// Print prints c.
func (p *Printer) Print(c *v1alpha1.NodeContainer) error {
	if err := p.one(c); err != nil {
		return fmt.Errorf("print %q: %w", c.Name, err)
	}
	return nil
}

func printYAML(out io.Writer, c *v1alpha1.NodeContainer) error {
	document, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "---\n%s", document)
	return err
}

// table prints a header, then a line each time. The writer remembers how wide each column has been; a column's own width
// keeps its first cells from being narrower than those that will follow.
type table struct {
	out     *tabwriter.Writer
	columns []column
	headed  bool
}

func newTable(out io.Writer, columns []column) *table {
	const minWidth, tabWidth, padding = 6, 4, 3 // kubectl's
	widths := make([]int, len(columns)-1)       // the last one is not padded
	for i := range widths {
		widths[i] = columns[i].width + padding
	}
	w := tabwriter.NewWriter(out, minWidth, tabWidth, padding, ' ', tabwriter.RememberWidths)
	return &table{out: w.SetRememberedWidths(widths), columns: columns}
}

func (t *table) line(c *v1alpha1.NodeContainer) error {
	names, cells := make([]string, len(t.columns)), make([]string, len(t.columns))
	for i, column := range t.columns {
		names[i], cells[i] = column.name, cmp.Or(column.cell(c), "<none>")
	}
	text := strings.Join(cells, "\t") + "\n"
	if !t.headed {
		t.headed = true
		text = strings.Join(names, "\t") + "\n" + text
	}
	if _, err := io.WriteString(t.out, text); err != nil {
		return err
	}
	return t.out.Flush()
}
