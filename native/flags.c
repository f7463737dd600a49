#include "shim.h"

#include <string.h>

/* Parses the flags like shim/contract/flags.py; -1 for anything unusual. */
int parse(int argc, char **argv, struct given *given)
{
	static const char *others[] = {"address", "publish-binary", "debug-socket", "socket"};
	size_t length, i;
	char *word, *value;
	int at;
	for (at = 1; at < argc - 1; at++) {
		word = argv[at];
		if (word[0] != '-')
			return -1;
		word += word[1] == '-' ? 2 : 1;
		if (!strcmp(word, "debug"))
			continue;
		length = strcspn(word, "=");
		value = word[length] ? word + length + 1 : ++at < argc - 1 ? argv[at] : NULL;
		if (!value)
			return -1;
#define IS(name) (length == strlen(name) && !strncmp(word, name, length))
		if (IS("namespace"))
			given->namespace = value;
		else if (IS("id"))
			given->id = value;
		else if (IS("bundle"))
			given->bundle = value;
		else {
			for (i = 0; i < sizeof others / sizeof *others && !IS(others[i]); i++)
				;
			if (i == sizeof others / sizeof *others)
				return -1;
		}
	}
	return 0;
}

static int is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Whether `name` is an identifier of the usual form; shim/contract/identifiers.py allows a few more. */
int is_plain(const char *name)
{
	size_t i, length = strlen(name);
	if (length == 0 || length > 76 || !is_letter_or_digit(name[length - 1]))
		return 0;
	for (i = 0; i < length; i++)
		if (!is_letter_or_digit(name[i]) &&
		    (i == 0 || !strchr("-_.", name[i]) || !is_letter_or_digit(name[i - 1])))
			return 0;
	return 1;
}
