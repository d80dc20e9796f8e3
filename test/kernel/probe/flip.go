package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// flip has the kernel open program to execute it, count times, with arguments that another thread rewrites all the while:
// the ID's bytes and the pointer to it. Its environment cannot be read, so the kernel refuses each, after it was held.
func flip(program, id string, count int) error {
	path, err := syscall.BytePtrFromString(program)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings([]string{program, "create", "--bundle", "/nowhere", id})
	if err != nil {
		return err
	}
	verb, plain := unsafe.Slice(argv[1], len("create")), unsafe.Slice(argv[4], len(id))
	long := make([]byte, 300<<10) // without an end
	for i := range long {
		long[i] = 'x'
	}
	var over atomic.Bool
	rewritten := make(chan struct{})
	go func() {
		defer close(rewritten)
		for turn := 0; !over.Load(); turn++ {
			switch turn % 6 {
			case 0:
				argv[4] = &plain[0]
			case 1:
				copy(plain, "../../\n\x1b[2J") // as much of it as there is room for
			case 2:
				copy(plain, id)
			case 3:
				argv[4] = &long[0]
			case 4:
				argv[4] = nil
			case 5:
				verb[0] ^= 'c' ^ 'k'
			}
		}
	}()
	for range count {
		_, _, errno := syscall.Syscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), 1)
		if errno != syscall.EFAULT && errno != syscall.E2BIG {
			return fmt.Errorf("execute %s: %w", program, os.NewSyscallError("execve", errno))
		}
	}
	over.Store(true)
	<-rewritten
	return nil
}
