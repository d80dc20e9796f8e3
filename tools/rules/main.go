// Command rules checks a file of Prometheus rules as Prometheus does when it loads one, and single queries:
//
//	rules alerts.yaml 'sum(up)' …
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: rules FILE [QUERY]...")
		os.Exit(2)
	}
	p := parser.NewParser(parser.Options{})
	_, errs := rulefmt.ParseFile(os.Args[1], false, model.UTF8Validation, p, slog.Default())
	for _, query := range os.Args[2:] {
		if _, err := p.ParseExpr(query); err != nil {
			errs = append(errs, fmt.Errorf("query %q: %w", query, err))
		}
	}
	if len(errs) > 0 {
		fmt.Fprintln(os.Stderr, errors.Join(errs...))
		os.Exit(1)
	}
}
