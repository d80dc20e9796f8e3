// Command probe is what the containers of the kernel tests run: one small static program, one behaviour per word.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		fail("no behaviour")
	}
	arg := func(n int) string {
		if len(os.Args) <= n {
			fail("%s: argument %d is missing", os.Args[1], n)
		}
		return os.Args[n]
	}
	switch os.Args[1] {
	case "exit": // with this code
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			fail("%v", err)
		}
		os.Exit(code)
	case "read": // all that there is, as a hook has to: crun dies of a pipe that nobody reads
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			fail("%v", err)
		}
	case "sleep": // until a signal asks for the end
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
	case "stat": // as the very first act: is this file there?
		if _, err := os.Stat(arg(2)); err != nil {
			fail("%v", err)
		}
	case "kill": // itself, by this signal
		number, err := strconv.Atoi(arg(2))
		if err != nil {
			fail("%v", err)
		}
		die(syscall.Signal(number))
	case "threads": // the first thread ends, another one ends the process with this code
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			fail("%v", err)
		}
		go func() {
			time.Sleep(50 * time.Millisecond)
			os.Exit(code)
		}()
		runtime.LockOSThread()
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0) // returns to nobody
	case "group": // another thread than the first one ends the process with this code, while both and more are there
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			fail("%v", err)
		}
		runtime.LockOSThread()
		for range 8 {
			go func() {
				runtime.LockOSThread()
				time.Sleep(time.Hour)
			}()
		}
		go func() {
			runtime.LockOSThread()
			os.Exit(code)
		}()
		select {}
	case "replace": // the program that follows by this file, and become it before anybody has heard of that
		fail("%v", replace(arg(2), arg(3)))
	case "flip": // arguments for the program that follows, so many times; the ID that it is given at first comes last
		count, err := strconv.Atoi(arg(3))
		if err == nil {
			err = flip(arg(2), arg(4), count)
		}
		if err != nil {
			fail("%v", err)
		}
	case "eat": // memory, until the kernel minds
		eat()
	case "feed": // a child that eats; then go on
		_ = exec.Command("/proc/self/exe", "eat").Run()
		time.Sleep(time.Hour)
	default:
		fail("unknown behaviour %q", os.Args[1])
	}
}

// replace renames and executes with nothing in between.
func replace(by, program string) error {
	path, err := syscall.BytePtrFromString(program)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(os.Args[3:])
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	if err := syscall.Rename(by, program); err != nil {
		return err
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(path)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	return errno
}

// die takes the default action of a signal, which Go's runtime keeps for itself otherwise. PID 1 of a namespace is spared
// its own signals, so a container's init dies of the fault itself where there is one.
func die(s syscall.Signal) {
	var byDefault [4]uint64 // the kernel's struct sigaction, all zero: SIG_DFL
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	if s == syscall.SIGSEGV {
		_ = *(*byte)(nil) //nolint:govet // it is to fault
	}
	_ = syscall.Kill(os.Getpid(), s)
	time.Sleep(time.Hour)
}

func eat() {
	var held [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
		runtime.KeepAlive(held)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "probe: "+format+"\n", args...)
	os.Exit(99)
}
