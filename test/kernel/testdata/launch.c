/*
 * launch executes PATH with ARGV, both literal strings of this program: in a child of it they are not in memory before
 * somebody reads them, which an execve that is looked at from a program that cannot wait has not done yet.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *const argv[] = {ARGV, 0};
extern char **environ;

static void *become(void *unused)
{
	(void)unused;
	execv(PATH, argv);
	_exit(98);
}

/* child_with_pid is fork, but the child has a pid that was another process's; it waits until that one is free. */
static pid_t child_with_pid(pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1,
	};
	pid_t child = -1;

	for (int tries = 0; child < 0 && tries < 2000; tries++) {
		child = syscall(SYS_clone3, &args, sizeof(args));
		if (child < 0)
			usleep(5000);
	}
	return child;
}

int main(int argc, char **args)
{
	const char *how = argc > 1 ? args[1] : "";
	pid_t child = -1;
	int status;

	if (!strcmp(how, "thread")) {
		pthread_t thread;

		pthread_create(&thread, 0, become, 0);
		for (;;)
			pause();
	} else if (!strcmp(how, "execveat")) {
		int dir = open(DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);

		syscall(SYS_execveat, dir, NAME, argv, environ, 0);
	} else if (!strcmp(how, "descriptor")) {
		int file = open(PATH, O_PATH | O_CLOEXEC);

		syscall(SYS_execveat, file, "", argv, environ, AT_EMPTY_PATH);
	} else if (!strcmp(how, "fork")) {
		child = fork();
	} else if (!strcmp(how, "vfork")) {
		child = vfork();
	} else if (!strcmp(how, "pid") && argc > 2) {
		child = child_with_pid(atoi(args[2]));
	}
	if (!child)
		become(0);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return 97;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
