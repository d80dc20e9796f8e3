/* The least that can be executed; with the argument "sleep", what an idle container runs. */
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "sleep"))
		pause();
	return 0;
}
