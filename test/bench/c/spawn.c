/*
 * How long commands take, from fork to exit, in a process of its own: Go's forks wait for each other's execs, which are
 * what is held here. Usage: spawn COUNT ID COMMAND [ARG…] [';' COMMAND [ARG…]]…
 * Runs the commands, one after the other, COUNT times, and prints what each time took in all, in ns. An argument "ID"
 * becomes the second one and a number. SIGTERM ends it when the time that it is at is over.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static int null;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void run(char **argv)
{
	int status;
	pid_t child = vfork();

	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		dup2(null, STDOUT_FILENO);      /* a container would keep our reader's pipe open */
		execv(argv[0], argv);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		;                               /* SIGTERM, for us */
	if (status)
		errx(1, "%s: wait status %#x", argv[0], status);
}

int main(int argc, char **argv)
{
	int count = argc > 3 ? atoi(argv[1]) : 0;
	long long *took = calloc(count + 1, sizeof(*took));
	char id[256], *words[argc + 1];
	struct sigaction action = {.sa_handler = end};

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || !took || count < 1 || sigaction(SIGTERM, &action, NULL))
		errx(1, "usage: spawn COUNT ID COMMAND [ARG…] [';' COMMAND [ARG…]]…");
	for (int i = 0; i < count && !ended; i++) {
		int n = 0;

		snprintf(id, sizeof(id), "%s%d", argv[2], i);
		took[i] = -now();
		for (int at = 3; at <= argc; at++) {
			if (at < argc && strcmp(argv[at], ";")) {
				words[n++] = strcmp(argv[at], "ID") ? argv[at] : id;
				continue;
			}
			words[n] = NULL;
			run(words);
			n = 0;
		}
		took[i] += now();
	}
	for (int i = 0; i < count && took[i]; i++)
		printf("%lld\n", took[i]);
	return 0;
}
