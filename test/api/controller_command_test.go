package api

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/containerhook/containerhook/test/api/controlplane"
	"github.com/containerhook/containerhook/test/machine"
)

// scrape gets the metrics, and returns the status code and what they are.
func scrape(t *testing.T, address, token string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	whoever := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := whoever.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// readerToken returns a token that may read metrics.
func readerToken(t *testing.T, plane *controlplane.ControlPlane, c client.Client) string {
	t.Helper()
	reader, err := plane.PodClient(t.Context(), system, "prometheus", "controllers")
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "containerhook-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "prometheus"}},
	})
	return reader.BearerToken
}

// The command itself, twice, as the Deployment runs it.
func TestOneControllerWorksAtATime(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "controllers")
	create(t, c, newContainer("led", "controllers"))
	binary, reader := build(t, "../../cmd/controller"), readerToken(t, plane, c)
	start := func() (*command, string) {
		rights, err := plane.PodClient(t.Context(), system, "containerhook-controller", "controllers")
		if err != nil {
			t.Fatal(err)
		}
		address := machine.FreeAddress(t)
		return startCommand(t, binary, rights, "--leader-elect-namespace="+system, "--health-probe-bind-address=0",
			"--metrics-bind-address="+address), address
	}
	counts := func(address string, objects int) error {
		_, metrics, err := scrape(t, address, reader)
		if want := fmt.Sprintf("\ncontainerhook_objects %d\n", objects); !strings.Contains(metrics, want) {
			return fmt.Errorf("the metrics of %s have no %q: %w", address, want, err)
		}
		return nil
	}
	leader, leaderAddress := start()
	eventually(t, time.Minute, func() error { return counts(leaderAddress, 1) })
	holder := holderOf(t, c)
	second, secondAddress := start()
	eventually(t, time.Minute, func() error { return counts(secondAddress, 0) })
	stays(t, 6*time.Second, func() error { return errors.Join(counts(leaderAddress, 1), counts(secondAddress, 0)) })

	began := time.Now()
	leader.end(syscall.SIGTERM)
	if code := leader.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	eventually(t, time.Minute, func() error { return counts(secondAddress, 1) })
	t.Logf("the other one took over within %v", time.Since(began).Round(time.Millisecond))
	if after := holderOf(t, c); after == holder {
		t.Errorf("the lease is still %q's", holder)
	}
	second.end(syscall.SIGTERM)
}

// holderOf returns who holds the controller's lease.
func holderOf(t *testing.T, c client.Client) string {
	t.Helper()
	var lease coordinationv1.Lease
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "controller.containerhook.io"}, &lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		t.Fatal("nobody holds the lease")
	}
	return *lease.Spec.HolderIdentity
}

func TestTheMetricsOfTheControllerAreForWhomRBACAllows(t *testing.T) {
	t.Parallel()
	plane := ownPlane(t)
	c := newClient(t, plane.Config)
	newNode(t, plane, "controllers")
	rights, err := plane.PodClient(t.Context(), system, "containerhook-controller", "controllers")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := plane.PodClient(t.Context(), system, "stranger", "controllers")
	if err != nil {
		t.Fatal(err)
	}
	address := machine.FreeAddress(t)
	startCommand(t, build(t, "../../cmd/controller"), rights, "--leader-elect=false", "--health-probe-bind-address=0",
		"--metrics-bind-address="+address)
	eventually(t, time.Minute, func() error { _, _, err := scrape(t, address, ""); return err })

	for _, test := range []struct {
		who, token string
		code       int
	}{
		{"nobody", "", http.StatusUnauthorized},
		{"a token that nobody gave", "none", http.StatusInternalServerError}, // so controller-runtime says
		{"a service account without the role", stranger.BearerToken, http.StatusForbidden},
		{"a service account with the role", readerToken(t, plane, c), http.StatusOK},
	} {
		code, metrics, err := scrape(t, address, test.token)
		if err != nil || code != test.code {
			t.Errorf("%s gets %d (%v), not %d", test.who, code, err, test.code)
		}
		for _, name := range []string{"containerhook_objects", "containerhook_unmatched_objects", "containerhook_gc_deleted_total", "containerhook_breaker_open"} {
			if has := regexp.MustCompile("(?m)^" + name + "[{ ]").MatchString(metrics); has != (code == http.StatusOK) {
				t.Errorf("%s gets %s: %v", test.who, name, has)
			}
		}
	}
}
