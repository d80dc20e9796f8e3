package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// image is what is to be packed.
type image struct {
	name       string // repository and tag
	created    time.Time
	entrypoint []string
	user       string
	labels     map[string]string
	variants   []variant
}

// variant is the image for one platform: the files below dir.
type variant struct {
	platform platform
	dir      string
}

// The JSON documents of an image, as far as they are used here: github.com/opencontainers/image-spec, config.md,
// manifest.md and image-index.md.
type (
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	config struct {
		Created time.Time `json:"created"`
		platform
		Config runConfig `json:"config"`
		RootFS rootFS    `json:"rootfs"`
	}
	runConfig struct {
		User       string            `json:"User,omitempty"`
		Entrypoint []string          `json:"Entrypoint,omitempty"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels,omitempty"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	manifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        descriptor        `json:"config"`
		Layers        []descriptor      `json:"layers"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	index struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []descriptor      `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
)

const (
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
)

// layout is a packed image, and the digest that a registry would know it by.
type layout struct {
	tar    []byte
	digest string
}

// layout packs the image: an index of manifests, each of a config and one layer.
func (i image) layout() (layout, error) {
	b := blobs{}
	top := index{SchemaVersion: 2, MediaType: mediaIndex, Annotations: i.labels}
	for _, v := range i.variants {
		d, err := i.manifest(b, v)
		if err != nil {
			return layout{}, err
		}
		top.Manifests = append(top.Manifests, d)
	}
	d, err := b.addJSON(mediaIndex, top)
	if err != nil {
		return layout{}, err
	}
	digest := d.Digest
	_, tag, _ := strings.Cut(i.name[strings.LastIndex(i.name, "/")+1:], ":")
	// The second is the tag alone, by which skopeo and podman know it; ctr and kind want the first.
	d.Annotations = map[string]string{"io.containerd.image.name": i.name, "org.opencontainers.image.ref.name": tag}
	raw, err := json.Marshal(index{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []descriptor{d}})
	if err != nil {
		return layout{}, fmt.Errorf("encode index: %w", err)
	}
	tarred, err := b.pack(raw, i.created)
	return layout{tarred, digest}, err
}

// manifest adds the blobs of one platform's image, and describes it.
func (i image) manifest(b blobs, v variant) (descriptor, error) {
	plain, err := layer(v.dir, i.created)
	if err != nil {
		return descriptor{}, err
	}
	zipped, err := compress(plain)
	if err != nil {
		return descriptor{}, err
	}
	c := config{Created: i.created, platform: v.platform, RootFS: rootFS{"layers", []string{digestOf(plain)}},
		Config: runConfig{User: i.user, Entrypoint: i.entrypoint, WorkingDir: "/", Labels: i.labels}}
	described, err := b.addJSON(mediaConfig, c)
	if err != nil {
		return descriptor{}, err
	}
	d, err := b.addJSON(mediaManifest, manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: described,
		Layers: []descriptor{b.add(mediaLayer, zipped)}, Annotations: i.labels})
	d.Platform = &v.platform
	return d, err
}
