/*
 * The floor: the least that anybody who holds an exec can do. Usage: responder FILE…
 * Marks the files as the agent's gate does, says "ready", and allows every exec, one event per read.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int group = fanotify_init(FAN_CLASS_CONTENT | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS | FAN_CLOEXEC,
				  O_RDONLY | O_CLOEXEC | O_LARGEFILE);
	struct fanotify_event_metadata event;

	if (group < 0)
		err(1, "open a fanotify group");
	for (int i = 1; i < argc; i++)
		if (fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, argv[i]))
			err(1, "mark %s", argv[i]);
	puts("ready");
	fflush(stdout);
	while (read(group, &event, sizeof(event)) == sizeof(event)) {
		struct fanotify_response answer = {.fd = event.fd, .response = FAN_ALLOW};

		if (write(group, &answer, sizeof(answer)) != sizeof(answer))
			warn("answer");
		close(event.fd);
	}
	err(1, "read an event");
}
