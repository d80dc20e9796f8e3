package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Unix(1700000000, 0).UTC()

// tree writes files, executable where their name ends in !.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o600)
		if name[len(name)-1] == '!' {
			name, mode = name[:len(name)-1], 0o700
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t *testing.T, dirs ...string) layout {
	t.Helper()
	i := image{name: "example.org/a/b:v1", created: epoch, entrypoint: []string{"/agent"}, user: "65532:65532",
		labels: map[string]string{"org.opencontainers.image.title": "b"}}
	for n, dir := range dirs {
		i.variants = append(i.variants, variant{platform{[]string{"amd64", "arm64"}[n], "linux"}, dir})
	}
	l, err := i.layout()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// unpack reads the files of a tar.
func unpack(t *testing.T, raw []byte) (map[string][]byte, []*tar.Header) {
	t.Helper()
	files, headers := map[string][]byte{}, []*tar.Header(nil)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = content
		headers = append(headers, h)
	}
}

// blob reads what a descriptor describes, and checks that it does.
func blob(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	content, ok := files["blobs/sha256/"+d.Digest[len("sha256:"):]]
	if !ok || len(content) != d.Size || digestOf(content) != d.Digest {
		t.Fatalf("no blob of %d bytes that is %s", d.Size, d.Digest)
	}
	return content
}

func decode(t *testing.T, raw []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

func TestTheSameFilesMakeTheSameImage(t *testing.T) {
	files := map[string]string{"agent!": "a", "LICENSE": "l", "etc/x": "x"}
	one, two := pack(t, tree(t, files)), pack(t, tree(t, files)) // of other times and in other places
	if one.digest != two.digest || !bytes.Equal(one.tar, two.tar) {
		t.Errorf("digests %s and %s", one.digest, two.digest)
	}
}

func TestOtherFilesMakeAnotherImage(t *testing.T) {
	base := pack(t, tree(t, map[string]string{"agent!": "a"}))
	for what, files := range map[string]map[string]string{
		"content": {"agent!": "b"}, "a name": {"other!": "a"}, "a mode": {"agent": "a"}, "one more": {"agent!": "a", "x": ""},
	} {
		if pack(t, tree(t, files)).digest == base.digest {
			t.Errorf("with another %s the digest is the same", what)
		}
	}
}

func TestEveryDescriptorLeadsToItsContent(t *testing.T) {
	l := pack(t, tree(t, map[string]string{"agent!": "for amd64"}), tree(t, map[string]string{"agent!": "for arm64"}))
	files, _ := unpack(t, l.tar)
	var top, platforms index
	decode(t, files["index.json"], &top)
	if len(top.Manifests) != 1 || top.Manifests[0].Digest != l.digest {
		t.Fatalf("index.json: %+v", top.Manifests)
	}
	wantNames := map[string]string{"io.containerd.image.name": "example.org/a/b:v1", "org.opencontainers.image.ref.name": "v1"}
	if diff := cmp.Diff(wantNames, top.Manifests[0].Annotations); diff != "" {
		t.Errorf("names, -want +got:\n%s", diff)
	}
	decode(t, blob(t, files, top.Manifests[0]), &platforms)
	var got []string
	for _, d := range platforms.Manifests {
		var m manifest
		var c config
		decode(t, blob(t, files, d), &m)
		decode(t, blob(t, files, m.Config), &c)
		zipped, err := gzip.NewReader(bytes.NewReader(blob(t, files, m.Layers[0])))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(zipped)
		if err != nil {
			t.Fatal(err)
		}
		if *d.Platform != c.platform || c.RootFS.DiffIDs[0] != digestOf(plain) {
			t.Errorf("the config %+v is not that of %+v with a layer %s", c, d, digestOf(plain))
		}
		content, _ := unpack(t, plain)
		got = append(got, c.Architecture+": "+string(content["agent"]))
		if c.Config.User != "65532:65532" || c.Config.Labels["org.opencontainers.image.title"] != "b" || c.Config.Entrypoint[0] != "/agent" {
			t.Errorf("config %+v", c.Config)
		}
	}
	if diff := cmp.Diff([]string{"amd64: for amd64", "arm64: for arm64"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestALayerTellsNothingOfWhoMadeIt(t *testing.T) {
	raw, err := layer(tree(t, map[string]string{"bin/agent!": "a", "LICENSE": "l"}), epoch)
	if err != nil {
		t.Fatal(err)
	}
	_, headers := unpack(t, raw)
	modes := map[string]int64{}
	for _, h := range headers {
		modes[h.Name] = h.Mode
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(epoch) {
			t.Errorf("%+v", h)
		}
	}
	if diff := cmp.Diff(map[string]int64{"LICENSE": 0o644, "bin/": 0o755, "bin/agent": 0o755}, modes); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsNoFileIsNotPacked(t *testing.T) {
	dir := tree(t, nil)
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "agent")); err != nil {
		t.Fatal(err)
	}
	if _, err := layer(dir, epoch); err == nil {
		t.Error("a symlink was packed")
	}
}
