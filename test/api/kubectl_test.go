package api

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/containerhook/containerhook/test/api/controlplane"
)

func TestKubectlPrintsWhatAUserAsksForFirst(t *testing.T) {
	for _, flags := range [][]string{nil, {"--subresource=status"}} {
		kubectl(t, append(flags, "apply", "--server-side", "-k", "../../config/samples")...)
	}
	t.Cleanup(func() { kubectl(t, "delete", "--ignore-not-found", "-k", "../../config/samples") })

	got := controlplane.Table(kubectl(t, "get", "nctr", "-o", "wide"))
	want := []map[string]string{{
		"NAME": "node-1-62ee942cfdcb-i7swssxr4b", "NODE": "node-1", "RUNTIME": "runc", "STATE": "Running",
		"NAMESPACE": "shop", "POD": "web-7d4b9c6f5-x2x9k", "CONTAINER": "main",
		"ID":    "62ee942cfdcbb694d2436c41439867c5458a3d5fafaf355e210c480816e3c4f7",
		"IMAGE": "docker.io/library/shop:1.4", "PID": "4001", "EXIT": "",
	}, {
		"NAME": "node-1-d470bda13f7f-7hvxqqk4ch", "NODE": "node-1", "RUNTIME": "runc", "STATE": "Stopped",
		"NAMESPACE": "", "POD": "", "CONTAINER": "db",
		"ID":    "d470bda13f7fb456c68731b7cd0bc90e3ebe3d38cd592eb97c551685fac59a93",
		"IMAGE": "", "PID": "4017", "EXIT": "3",
	}}
	for _, row := range got {
		for _, age := range []string{"AGE", "STARTED"} {
			if row[age] == "" || strings.HasPrefix(row[age], "<") {
				t.Errorf("%s is %q", age, row[age])
			}
			delete(row, age)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	agents := controlplane.Table(kubectl(t, "get", "nodecontaineragents", "-o", "wide"))
	delete(agents[0], "AGE")
	want = []map[string]string{{"NAME": "node-1", "READY": "True", "HOOKED": "True", "LIVE": "12", "MISSED": "0", "LATE": "0",
		"COMPLETE": "", "VERSION": "v0.1.0", "MESSAGE": ""}}
	if diff := cmp.Diff(want, agents); diff != "" {
		t.Error(diff)
	}

	if narrow := controlplane.Table(kubectl(t, "get", "nctr"))[0]; narrow["ID"] != "" || narrow["STATE"] == "" {
		t.Errorf("not wide: %v", narrow)
	}
	if all := kubectl(t, "get", "containers"); !strings.Contains(all, "nodecontaineragent.") || !strings.Contains(all, "nodecontainer.") {
		t.Errorf("get containers: %s", all)
	}
	if all := kubectl(t, "get", "all"); strings.Contains(all, "nodecontainer") {
		t.Errorf("get all: %s", all)
	}
}

func TestKubectlExplainsFields(t *testing.T) {
	for field, want := range map[string][]string{
		"nodecontainer":                          {"spec is what the container was created with", "status is how far"},
		"nodecontainer.spec.mounts":              {"that reach into the node", "source", "path on the node", "enum: HostToContainer, Bidirectional"},
		"nctr.spec.pod.uid":                      {"A static pod has the hash of its manifest"},
		"nctr.status.exitCode":                   {"128 and the signal"},
		"nctr.status.conditions":                 {"PodMatched and SpecMatched"},
		"nodecontaineragent.spec.suspendCreates": {"no new NodeContainer"},
	} {
		t.Run(field, func(t *testing.T) {
			got := strings.Join(strings.Fields(kubectl(t, "explain", field)), " ") // it breaks lines where it likes
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in %q", w, got)
				}
			}
		})
	}
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := plane.Kubectl(context.WithoutCancel(t.Context()), args...) // it cleans up too
	if err != nil {
		t.Fatal(err)
	}
	return out
}
