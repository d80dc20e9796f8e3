package agent

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestSecretsOfAContainerAreNowhereInTheStore: each is a word of its own in the config.json of a container that really
// runs. That they are looked for where they would be is shown by words that may be told.
func TestSecretsOfAContainerAreNowhereInTheStore(t *testing.T) {
	t.Parallel()
	n := newNode(t, plane)
	a := n.startAgent("-v", "1", "--annotation", "example.com/owner")
	secrets := []string{"canary-env", "canary-argument", "canary-annotation", "canary-key", "canary-option", "canary-hook-argument",
		"canary-hook-env"}
	for _, dir := range []string{"canary-option", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(n.rootfs, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := n.newID()
	n.must("create", "--bundle", n.bundle(id, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "PASSWORD=canary-env")
		s.Annotations = map[string]string{"example.com/token": "canary-annotation", "canary-key": "x", "example.com/owner": "told-annotation"}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + n.dir + "/canary-option", "upperdir=" + n.dir + "/upper", "workdir=" + n.dir + "/work"}})
		s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{
			Path: "/bin/true", Args: []string{"true", "canary-hook-argument"}, Env: []string{"TOKEN=canary-hook-env"}}}}
	}, "sleep", "canary-argument"), id)
	n.must("start", id)
	n.object(id, running)
	n.end(id)
	n.object(id, ended(137))

	places := map[string][]byte{"the agent's log": a.log.bytes()}
	entries, err := n.plane.AllStored(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		places["key "+string(e.Key)] = append(e.Key, e.Value...)
	}
	files := n.files(filepath.Join(n.plane.Dir, "etcd"), n.checkpoint)
	for path, content := range files {
		places[path] = content
	}
	for _, secret := range secrets {
		for place, content := range places {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s is in %s", secret, place)
			}
		}
	}
	for _, told := range []string{"told-annotation", id, "/bin/true"} {
		for what, in := range map[string]map[string][]byte{"entries": places, "files": files} {
			found := 0
			for _, content := range in {
				if bytes.Contains(content, []byte(told)) {
					found++
				}
			}
			if found == 0 {
				t.Errorf("%s is in none of the %d %s", told, len(in), what)
			}
		}
	}
	t.Logf("%d words are in none of %d entries and %d files", len(secrets), len(entries), len(files))
}

// files reads all that there is below some directories.
func (n *node) files(dirs ...string) map[string][]byte {
	n.t.Helper()
	found := map[string][]byte{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			found[path], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return found
}
