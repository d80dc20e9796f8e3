package object

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/event"
)

// specOf makes the spec of a NodeContainer from the first event of a container, the only one with its config.json.
// Without config.json it has what the runtime was asked for.
func specOf(e *event.Event, o *Options) v1alpha1.NodeContainerSpec {
	var c cutter
	spec := v1alpha1.NodeContainerSpec{
		NodeName:    o.NodeName,
		BootID:      o.BootID,
		ContainerID: c.text("containerID", e.ID, maxID),
		Name:        c.text("name", e.Name, maxName),
		Type:        v1alpha1.TypeContainer,
		Bundle:      c.text("bundle", e.Bundle, MaxPath),
		Runtime: v1alpha1.ContainerRuntime{
			Name: c.text("runtime.name", e.Runtime.Name, maxWord),
			Path: c.text("runtime.path", e.Runtime.Path, MaxPath),
		},
		Security: v1alpha1.ContainerSecurity{Rootless: e.Rootless},
	}
	if e.Spec != nil {
		c.config(&spec, e.Spec)
		spec.Annotations = annotationsOf(&c, e.Spec.Annotations, o.Annotations)
	}
	c.fit(&spec)
	spec.Truncated = c.fields
	return spec
}

// config adds to spec what config.json asks for.
func (c *cutter) config(spec *v1alpha1.NodeContainerSpec, config *specs.Spec) {
	// Every part of config.json may be missing. An empty one has the same facts: none.
	linux, process := config.Linux, config.Process
	if linux == nil {
		linux = &specs.Linux{}
	}
	if process == nil {
		process = &specs.Process{}
	} else {
		spec.User = userOf(c, process.User)
	}
	spec.CgroupsPath = c.text("cgroupsPath", linux.CgroupsPath, MaxPath)
	if len(process.Args) > 0 {
		spec.Entrypoint = c.text("entrypoint", process.Args[0], MaxPath)
	}
	claim := claimOf(config.Annotations, linux.CgroupsPath)
	claim.describe(c, spec)
	spec.Capabilities = capabilitiesOf(c, process.Capabilities)
	spec.Security = securityOf(c, config.Root, process, linux, spec.Security.Rootless)
	spec.Mounts = mountsOf(c, config.Mounts, claim.owners(spec.ContainerID))
	if !spec.Security.AllDevices {
		spec.Devices = devicesOf(c, linux.Devices)
	}
	spec.Hooks = hooksOf(c, config.Hooks)
	spec.Resources = resourcesOf(linux.Resources)
}

func userOf(c *cutter, user specs.User) v1alpha1.ContainerUser {
	uid, gid := int64(user.UID), int64(user.GID)
	u := v1alpha1.ContainerUser{UID: &uid, GID: &gid}
	for _, g := range capped(c, "user.supplementalGroups", user.AdditionalGids, maxGIDs) {
		if int64(g) != gid { // engines repeat the primary group
			u.SupplementalGroups = append(u.SupplementalGroups, int64(g))
		}
	}
	return u
}

func hooksOf(c *cutter, hooks *specs.Hooks) []v1alpha1.ContainerHook {
	if hooks == nil {
		return nil
	}
	var all []v1alpha1.ContainerHook
	for _, s := range []struct {
		stage v1alpha1.HookStage
		hooks []specs.Hook
	}{
		{v1alpha1.HookPrestart, hooks.Prestart}, //nolint:staticcheck // deprecated, and what docker uses
		{v1alpha1.HookCreateRuntime, hooks.CreateRuntime},
		{v1alpha1.HookCreateContainer, hooks.CreateContainer},
		{v1alpha1.HookStartContainer, hooks.StartContainer},
		{v1alpha1.HookPoststart, hooks.Poststart},
		{v1alpha1.HookPoststop, hooks.Poststop},
	} {
		for _, h := range capped(c, "hooks", s.hooks, maxHooks) {
			if h.Path != "" {
				all = append(all, v1alpha1.ContainerHook{Stage: s.stage, Path: c.text("hooks", h.Path, MaxPath)})
			}
		}
	}
	return capped(c, "hooks", all, maxHooks)
}

// usualPeriod is the period of a CPU quota, in microseconds, that the kernel takes where it is given none
// (Documentation/scheduler/sched-bwc.rst).
const usualPeriod = 100_000

func resourcesOf(r *specs.LinuxResources) v1alpha1.ContainerResources {
	var res v1alpha1.ContainerResources
	if r == nil {
		return res
	}
	if r.Memory != nil {
		res.MemoryLimitBytes = positive(r.Memory.Limit)
	}
	if r.CPU != nil {
		res.CPUShares = positive(r.CPU.Shares)
		res.CPUQuota = positive(r.CPU.Quota)
		if period := positive(r.CPU.Period); res.CPUQuota > 0 && period != usualPeriod { // without a quota it says nothing
			res.CPUPeriod = period
		}
	}
	if r.Pids != nil {
		res.PIDsLimit = positive(r.Pids.Limit)
	}
	return res
}

// positive returns *p, or 0 for what the runtimes take as no limit: nothing, 0, -1, and more than fits.
func positive[T int64 | uint64](p *T) int64 {
	if p == nil {
		return 0
	}
	return max(0, int64(*p))
}

func annotationsOf(c *cutter, all map[string]string, allowed []string) map[string]v1alpha1.AnnotationValue {
	var copied map[string]v1alpha1.AnnotationValue
	for _, key := range capped(c, "annotations", allowed, maxAnnotations) {
		value, ok := all[key]
		if !ok {
			continue
		}
		if copied == nil {
			copied = make(map[string]v1alpha1.AnnotationValue)
		}
		copied[key] = v1alpha1.AnnotationValue(c.text("annotations", value, MaxText))
	}
	return copied
}
