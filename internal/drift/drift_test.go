package drift

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
)

// Each difference is named, and is none where the pod asked for it.
func TestDifferencesAreWhatWasNotAskedFor(t *testing.T) {
	yes, root, user := true, int64(0), int64(1000)
	runs := func(change func(*v1alpha1.NodeContainer)) func(*v1alpha1.NodeContainer) { return change }
	asks := func(s corev1.SecurityContext) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = &s }
	}
	capabilities := func(names ...string) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) { c.Spec.Capabilities = names }
	}
	adds := func(add, drop string) func(*corev1.Pod) {
		caps := &corev1.Capabilities{}
		for _, name := range strings.Fields(add) {
			caps.Add = append(caps.Add, corev1.Capability(name))
		}
		for _, name := range strings.Fields(drop) {
			caps.Drop = append(caps.Drop, corev1.Capability(name))
		}
		return asks(corev1.SecurityContext{Capabilities: caps})
	}
	mounts := func(destination, source string, readOnly bool) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) {
			c.Spec.Mounts = []v1alpha1.ContainerMount{{Destination: destination, Source: source, ReadOnly: readOnly}}
		}
	}
	volume := func(path string, vm corev1.VolumeMount) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			vm.Name = "v"
			v := corev1.Volume{Name: "v"}
			if path != "" {
				v.HostPath = &corev1.HostPathVolumeSource{Path: path}
			}
			p.Spec.Volumes, p.Spec.Containers[0].VolumeMounts = []corev1.Volume{v}, []corev1.VolumeMount{vm}
		}
	}
	shares := func(all ...v1alpha1.NamespaceType) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) { c.Status.HostNamespaces = all }
	}
	hasImage := func(name string) func(*v1alpha1.NodeContainer) {
		return func(c *v1alpha1.NodeContainer) { c.Spec.Image.Name = name }
	}
	nothing := func(*corev1.Pod) {}
	const podDir = "/var/lib/kubelet/pods/" + webUID

	for _, test := range []struct {
		name string
		c    func(*v1alpha1.NodeContainer)
		p    func(*corev1.Pod)
		want string
	}{
		{"nothing", func(*v1alpha1.NodeContainer) {}, nothing, ""},

		{"privileged", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Security.Privileged = true }), nothing, "it is privileged"},
		{"privileged, asked", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Security.Privileged = true; capabilities("SYS_ADMIN")(c) }),
			asks(corev1.SecurityContext{Privileged: &yes}), ""},

		{"capabilities", capabilities("CHOWN", "NET_ADMIN", "SYS_ADMIN"), nothing, "it has NET_ADMIN, SYS_ADMIN"},
		{"capabilities, asked", capabilities("CHOWN", "NET_ADMIN"), adds("CAP_net_admin", ""), ""},
		{"one of two asked", capabilities("NET_ADMIN", "SYS_ADMIN"), adds("NET_ADMIN", ""), "it has SYS_ADMIN"},
		{"all asked", capabilities("NET_ADMIN", "SYS_ADMIN"), adds("ALL", ""), ""},
		{"all asked but one", capabilities("NET_ADMIN", "SYS_ADMIN"), adds("ALL", "SYS_ADMIN"), "it has SYS_ADMIN"},
		{"all dropped", capabilities("CHOWN"), adds("", "ALL"), "it has CHOWN"},
		{"all dropped, one asked", capabilities("CHOWN"), adds("CHOWN", "ALL"), ""},
		{"one dropped", capabilities("CHOWN"), adds("", "CHOWN"), "it has CHOWN"},

		{"network", shares(v1alpha1.NamespaceNetwork), nothing, "it has the node's Network namespace"},
		{"network, asked", shares(v1alpha1.NamespaceNetwork, v1alpha1.NamespaceUTS), func(p *corev1.Pod) { p.Spec.HostNetwork = true }, ""},
		{"pid", shares(v1alpha1.NamespacePID), func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "it has the node's PID namespace"},
		{"pid, asked", shares(v1alpha1.NamespacePID), func(p *corev1.Pod) { p.Spec.HostPID = true }, ""},
		{"shared memory of the node", mounts("/dev/shm", "/dev/shm", false), func(p *corev1.Pod) { p.Spec.HostPID = true }, "/dev/shm is the node's /dev/shm"},
		{"shared memory of the node, asked", mounts("/dev/shm", "/dev/shm", false), func(p *corev1.Pod) { p.Spec.HostIPC = true }, ""},
		{"other memory", mounts("/dev/shm", "/dev", false), func(p *corev1.Pod) { p.Spec.HostIPC = true }, "/dev/shm is the node's /dev"},
		{"ipc, asked", shares(v1alpha1.NamespaceIPC), func(p *corev1.Pod) { p.Spec.HostIPC = true }, ""},
		{"mount", shares(v1alpha1.NamespaceMount), asks(corev1.SecurityContext{Privileged: &yes}), "it has the node's Mount namespace"},
		{"cgroup is no privilege", shares(v1alpha1.NamespaceCgroup), nothing, ""},
		{"user", func(*v1alpha1.NodeContainer) {}, func(p *corev1.Pod) { p.Spec.HostUsers = new(bool) }, "it has the node's user namespace"},
		{"user, asked", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Security.UserNamespace = true }), func(p *corev1.Pod) { p.Spec.HostUsers = new(bool) }, ""},

		{"root filesystem", func(*v1alpha1.NodeContainer) {}, asks(corev1.SecurityContext{ReadOnlyRootFilesystem: &yes}), "its root filesystem is writable"},
		{"root filesystem, asked", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Security.ReadOnlyRootFilesystem = true }), asks(corev1.SecurityContext{ReadOnlyRootFilesystem: &yes}), ""},

		{"uid", func(*v1alpha1.NodeContainer) {}, asks(corev1.SecurityContext{RunAsUser: &root}), "its user is 1000"},
		{"uid, asked", func(*v1alpha1.NodeContainer) {}, asks(corev1.SecurityContext{RunAsUser: &user}), ""},
		{"uid of the pod", func(*v1alpha1.NodeContainer) {}, func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &root} }, "its user is 1000"},
		{"uid of the pod, and its own", func(*v1alpha1.NodeContainer) {}, func(p *corev1.Pod) {
			asks(corev1.SecurityContext{RunAsUser: &user})(p)
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &root}
		}, ""},
		{"root where it must not be", runs(func(c *v1alpha1.NodeContainer) { c.Spec.User.UID = &root }), asks(corev1.SecurityContext{RunAsNonRoot: &yes}), "its user is 0"},
		{"root where it may be", runs(func(c *v1alpha1.NodeContainer) { c.Spec.User.UID = &root }), nothing, ""},

		{"host path", mounts("/h", "/etc", false), nothing, "/h is the node's /etc"},
		{"host path, asked", mounts("/h", "/etc", false), volume("/etc/", corev1.VolumeMount{MountPath: "/h/"}), ""},
		{"host path, through a link", mounts("/h", "/run/docker.sock", false), volume("/var/run/docker.sock", corev1.VolumeMount{MountPath: "/h"}), ""},
		{"another host path", mounts("/h", "/etc", false), volume("/opt", corev1.VolumeMount{MountPath: "/h"}), "/h is the node's /etc"},
		{"a path that only begins like it", mounts("/h", "/etc-secret", false), volume("/etc", corev1.VolumeMount{MountPath: "/h"}), "/h is the node's /etc-secret"},
		{"host path at another place", mounts("/elsewhere", "/etc", false), volume("/etc", corev1.VolumeMount{MountPath: "/h"}), "/elsewhere is the node's /etc"},
		{"the root, asked", mounts("/h", "/etc", false), volume("/", corev1.VolumeMount{MountPath: "/h"}), ""},
		{"writable", mounts("/h", "/etc", false), volume("/etc", corev1.VolumeMount{MountPath: "/h", ReadOnly: true}), "/h is writable"},
		{"read-only", mounts("/h", "/etc", true), volume("/etc", corev1.VolumeMount{MountPath: "/h", ReadOnly: true}), ""},
		{"a volume", mounts("/d", podDir+"/volumes/kubernetes.io~csi/pvc/mount", false), volume("", corev1.VolumeMount{MountPath: "/d"}), ""},
		{"paths that are not clean", mounts("/a/b", "/srv/data", false), volume("/srv//./data", corev1.VolumeMount{MountPath: "a//./b"}), ""},
		{"a path that is another when clean", mounts("/a/b", "/srv/data", false), volume("/srv/data", corev1.VolumeMount{MountPath: "/a/../b"}), "/a/b is the node's /srv/data"},
		{"a claim whose volume is a host path", mounts("/d", "/var/lib/rancher/k3s/storage/pvc", false), func(p *corev1.Pod) {
			volume("", corev1.VolumeMount{MountPath: "/d"})(p)
			p.Spec.Volumes[0].PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}
		}, ""},
		{"a volume that is the node's root", mounts("/d", "/", false), volume("", corev1.VolumeMount{MountPath: "/d"}), "/d is the node's /"},
		{"a subpath", mounts("/h", podDir+"/volume-subpaths/v/main/0", false), volume("/etc", corev1.VolumeMount{MountPath: "/h", SubPath: "x"}), ""},
		{"not the subpath", mounts("/h", "/etc", false), volume("/etc", corev1.VolumeMount{MountPath: "/h", SubPath: "x"}), "/h is the node's /etc"},
		{"docker's own", mounts("/etc/resolv.conf", "/var/lib/docker/containers/"+strings.Repeat("a", 64)+"/resolv.conf", false), nothing, ""},
		{"a device plugin's", mounts("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi", true), func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
		}, ""},
		{"no device plugin's", mounts("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi", true), func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}, "/usr/bin/nvidia-smi is the node's /usr/bin/nvidia-smi"},

		{"image", hasImage("docker.io/library/redis:7"), nothing, "its image is docker.io/library/redis:7"},
		{"another tag", hasImage("docker.io/library/nginx:1.28"), nothing, "its image is docker.io/library/nginx:1.28"},
		{"the engine's name for it", hasImage("registry.local:5000/nginx:1.29"), func(p *corev1.Pod) { p.Status.ContainerStatuses[0].Image = "registry.local:5000/nginx:1.29" }, ""},
		{"pinned", hasImage("docker.io/library/nginx@sha256:aa"), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nginx:1.29@sha256:aa" }, ""},
		{"pinned to another", hasImage("docker.io/library/nginx@sha256:bb"), func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nginx:1.29@sha256:aa" }, "its image is docker.io/library/nginx@sha256:bb"},
		{"an image without a name", hasImage("sha256:aa"), nothing, ""},

		{"a container that the pod does not have", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Container = "miner" }), nothing, `the pod has no container "miner"`},
		{"a container without a claim", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Pod = v1alpha1.ContainerPod{} }), nothing, ""},
		{"an init container", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Container = "setup" }), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "nginx:1.29"}}
		}, ""},
		{"an ephemeral container", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Pod.Container = "debug" }), func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "nginx:1.29"}}}
		}, ""},
		{"a sandbox", runs(func(c *v1alpha1.NodeContainer) { c.Spec.Type = v1alpha1.TypeSandbox; hasImage("pause")(c) }), nothing, ""},
		{"two differences", runs(func(c *v1alpha1.NodeContainer) { capabilities("BPF")(c); mounts("/h", "/etc", false)(c) }), nothing, "it has BPF; /h is the node's /etc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, p := container(test.c), web(test.p)
			if got := strings.Join(Differences(c, p), "; "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			p.Spec = Asked(&p.Spec)
			if got := strings.Join(Differences(c, p), "; "); got != test.want {
				t.Errorf("of what a cache keeps %q, want %q", got, test.want)
			}
		})
	}
}

func TestAFewDifferencesAreNamedAndTheRestIsCounted(t *testing.T) {
	c := container(func(c *v1alpha1.NodeContainer) {
		for i := range 20 {
			c.Spec.Mounts = append(c.Spec.Mounts, v1alpha1.ContainerMount{Destination: fmt.Sprintf("/m%d", i), Source: "/etc"})
		}
	})
	if got := Differences(c, web()); len(got) != 9 || got[8] != "and 12 more" {
		t.Errorf("got %q", got)
	}
}

const webUID = "0f8fad5b-d9cb-469f-a165-70867728950e"

// container is a running container "main" of the pod default/web, as an agent tells it.
func container(change func(*v1alpha1.NodeContainer)) *v1alpha1.NodeContainer {
	uid := int64(1000)
	c := &v1alpha1.NodeContainer{Spec: v1alpha1.NodeContainerSpec{
		ContainerID: "c1", Type: v1alpha1.TypeContainer,
		Pod:          v1alpha1.ContainerPod{Namespace: "default", Name: "web", UID: webUID, Container: "main"},
		Image:        v1alpha1.ContainerImage{Name: "docker.io/library/nginx:1.29"},
		User:         v1alpha1.ContainerUser{UID: &uid, GID: &uid},
		Capabilities: []string{"CHOWN", "KILL"},
	}}
	change(c)
	return c
}

// web is the pod of that container, which runs in it.
func web(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: webUID},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "nginx:1.29"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", ContainerID: "containerd://c1", Image: "docker.io/library/nginx:1.29"},
		}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}
