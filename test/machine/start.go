package machine

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Start starts cmd, which the kernel kills where this process ends, and not before. The kernel takes the end of the
// thread that forked for that of the parent (PR_SET_PDEATHSIG), and a thread can end with a goroutine that was locked to
// it: all are forked by one that does not.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	forks() <- func() { started <- cmd.Start() }
	return <-started
}

var forks = sync.OnceValue(func() chan<- func() {
	all := make(chan func())
	go func() {
		runtime.LockOSThread()
		for fork := range all {
			fork()
		}
	}()
	return all
})
