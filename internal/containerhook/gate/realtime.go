package gate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// realtimeBudget is how long a thread of the gate may use a CPU without a pause: the kernel kills the process that does. It
// needs some microseconds for an event.
const realtimeBudget = time.Second

// runRealtime has all threads of this process, and those to come, run before any that are not realtime's: on a node with
// more work than CPUs an exec would else wait for the gate to have its turn, in a cgroup with few shares for seconds. It
// needs CAP_SYS_NICE, and is refused in a cgroup without a share of realtime (CONFIG_RT_GROUP_SCHED).
func runRealtime() error {
	budget := uint64(realtimeBudget / time.Microsecond)
	if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: budget, Max: budget}); err != nil {
		return fmt.Errorf("limit the time of realtime threads: %w", err)
	}
	return schedule(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1})
}

// runNormally takes back what this process has inherited of runRealtime.
func runNormally() error { return schedule(unix.SchedAttr{Policy: unix.SCHED_NORMAL}) }

// schedule sets how all threads of this process are scheduled. A thread inherits it from the one that makes it, so that it
// looks again until it has seen none that another one has made meanwhile.
func schedule(attr unix.SchedAttr) error {
	done := map[int]bool{}
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		news := false
		for _, entry := range threads {
			tid, err := strconv.Atoi(entry.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], news = true, true
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("set the scheduling policy: %w", err)
			}
		}
		if !news {
			return nil
		}
	}
}
