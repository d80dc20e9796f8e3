package chart

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// queries are what the dashboard asks for, with Grafana's variables filled in.
func queries(t *testing.T) (asked []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(chartDir, "files/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			asked = append(asked, strings.NewReplacer("$__rate_interval", "5m", "$node", ".*").Replace(target.Expr))
		}
	}
	return asked
}

func alerts(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(chartDir, "files/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestPrometheusTakesTheAlertsAndTheDashboardsQueries(t *testing.T) {
	asked := queries(t)
	args := append([]string{file(t, "alerts.yaml", alerts(t))}, asked...)
	if out, err := tool(t, "rules", args...); err != nil || len(asked) == 0 {
		t.Errorf("%d queries: %v\n%s", len(asked), err, out)
	}
}

func TestPrometheusDoesNotTakeABrokenOne(t *testing.T) {
	broken := strings.Replace(alerts(t), "containerhook_marked_runtimes == 0", "containerhook_marked_runtimes ==", 1)
	if out, err := tool(t, "rules", file(t, "alerts.yaml", broken)); err == nil {
		t.Errorf("a broken alert was taken: %s", out)
	}
	if out, err := tool(t, "rules", file(t, "alerts.yaml", alerts(t)), "sum(x"); err == nil {
		t.Errorf("a broken query was taken: %s", out)
	}
}

// An alert on a metric that nobody has never fires.
func TestAlertsAndDashboardAskForMetricsThatThereAre(t *testing.T) {
	sources := goSources(t)
	text := alerts(t) + strings.Join(queries(t), "\n")
	names := regexp.MustCompile(`containerhook_([a-z_]+)`).FindAllStringSubmatch(text, -1)
	if len(names) == 0 {
		t.Fatal("no metric is asked for")
	}
	for _, name := range names {
		base := strings.TrimSuffix(name[1], "_bucket")
		if !strings.Contains(sources, `"containerhook_`+base+`"`) && !strings.Contains(sources, `"`+base+`"`) {
			t.Errorf("no program has a metric %s", name[0])
		}
	}
}

// goSources are all of the programs' own, but for tests.
func goSources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"../../cmd", "../../internal"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			all.Write(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
