package object

import (
	"regexp"
	"slices"
	"strings"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// dialect is the annotations by which an engine says whose a container is.
type dialect struct {
	kind, sandboxID           string
	namespace, pod, uid, name string
	image                     []string // the first that is there
	handler                   string
}

// dialects differ by kind. Docker's config.json has no annotations, with cri-dockerd neither: labels stay with
// the engine. Podman says container-manager things only, and "container" in CRI-O's words for a member of its own pods.
var dialects = []dialect{
	{ // containerd, internal/cri/annotations
		kind:      "io.kubernetes.cri.container-type",
		sandboxID: "io.kubernetes.cri.sandbox-id",
		namespace: "io.kubernetes.cri.sandbox-namespace",
		pod:       "io.kubernetes.cri.sandbox-name",
		uid:       "io.kubernetes.cri.sandbox-uid", // since 1.7
		name:      "io.kubernetes.cri.container-name",
		image:     []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri.podsandbox.image-name"},
		handler:   "io.containerd.cri.runtime-handler",
	},
	{ // CRI-O, pkg/annotations, and the kubelet's labels, which it copies
		kind:      "io.kubernetes.cri-o.ContainerType",
		sandboxID: "io.kubernetes.cri-o.SandboxID",
		namespace: "io.kubernetes.pod.namespace",
		pod:       "io.kubernetes.pod.name",
		uid:       "io.kubernetes.pod.uid",
		name:      "io.kubernetes.container.name",
		image:     []string{"io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"},
		handler:   "io.kubernetes.cri-o.RuntimeHandler",
	},
}

// nerdctlName is the only annotation of an engine without pods that names the container.
const nerdctlName = "nerdctl/name"

// claim is whose a container claims to be. All of it is the engine's word, or that of whoever wrote config.json.
type claim struct {
	namespace, pod, uid, name string
	sandbox                   bool
	sandboxID                 string
	image, handler            string
	ownName                   string
}

func claimOf(annotations map[string]string, cgroupsPath string) claim {
	c := claim{ownName: annotations[nerdctlName]}
	for _, d := range dialects {
		kind, ok := annotations[d.kind]
		if !ok {
			continue
		}
		c.sandbox = kind == "sandbox"
		c.sandboxID = annotations[d.sandboxID]
		c.namespace, c.pod, c.uid = annotations[d.namespace], annotations[d.pod], annotations[d.uid]
		if !c.sandbox { // CRI-O calls a sandbox "POD"
			c.name = annotations[d.name]
		}
		if i := slices.IndexFunc(d.image, func(key string) bool { return annotations[key] != "" }); i >= 0 {
			c.image = annotations[d.image[i]]
		}
		c.handler = annotations[d.handler]
		break
	}
	if c.uid == "" {
		c.uid = podUIDOf(cgroupsPath)
	}
	return c
}

// describe puts the claim into spec.
func (cl *claim) describe(c *cutter, spec *v1alpha1.NodeContainerSpec) {
	if cl.sandbox {
		spec.Type = v1alpha1.TypeSandbox
	}
	spec.Pod = v1alpha1.ContainerPod{
		Namespace: c.text("pod.namespace", cl.namespace, maxLabel),
		Name:      c.text("pod.name", cl.pod, maxName),
		UID:       c.text("pod.uid", cl.uid, maxWord),
		Container: c.text("pod.container", cl.name, maxLabel),
	}
	if spec.Name == "" {
		spec.Name = c.text("name", cl.ownName, maxName)
	}
	spec.Image.Name = c.text("image.name", cl.image, maxImage)
	if _, digest, ok := strings.Cut(cl.image, "@"); ok {
		spec.Image.Digest = c.text("image.digest", digest, maxDigest)
	}
	spec.Runtime.Handler = c.text("runtime.handler", cl.handler, maxName)
}

// owners are the path elements that mark a directory of this container or its pod alone. A short one could be the name
// of any directory.
func (cl *claim) owners(containerID string) owners {
	o := owners{pod: cl.uid, ids: []string{containerID, cl.sandboxID}}
	o.ids = slices.DeleteFunc(o.ids, func(id string) bool { return len(id) < 32 })
	if len(o.pod) < 32 {
		o.pod = ""
	}
	return o
}

// The kubelet's cgroup of a pod, by both its drivers: /kubepods/burstable/pod<UID>/… and
// kubepods-burstable-pod<UID with _>.slice:cri-containerd:…. The UID of a static pod is a hash.
var podCgroup = regexp.MustCompile(`(?:^|[/-])pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?[:/]`)

// podUIDOf returns the UID of the pod to which a cgroup belongs, or nothing. It is all that is known of the pod of a
// container of cri-dockerd.
func podUIDOf(cgroupsPath string) string {
	m := podCgroup.FindStringSubmatch(prefix(cgroupsPath, MaxPath))
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}
