/* Reads the settings. launch.h describes their format. */
#include "launch.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER "pouchrich-launch 1"

/* What follows `key` and a blank in `record`, or NULL. */
static char *value_of(char *record, const char *key)
{
	size_t length = strlen(key);
	return strncmp(record, key, length) == 0 && record[length] == ' ' ? record + length + 1 : NULL;
}

/* The number at *text, which moves past it and the blank after it. No sign, no leading blank. */
static uint64_t number(const char **text, int base, uint64_t most, const char *record)
{
	char *end;
	unsigned long long found;
	if (!isxdigit((unsigned char)**text))
		fail_with(EINVAL, "settings", record);
	errno = 0;
	found = strtoull(*text, &end, base);
	if (errno || found > most || end == *text || (*end && *end != ' '))
		fail_with(errno ? errno : EINVAL, "settings", record);
	*text = *end ? end + 1 : end;
	return found;
}

/* `text` as one number with nothing after it. */
static uint64_t only_number(const char *text, int base, uint64_t most, const char *record)
{
	uint64_t found = number(&text, base, most, record);
	if (*text)
		fail_with(EINVAL, "settings", record);
	return found;
}

static void add_rlimit(struct settings *s, const char *text, const char *record)
{
	if (s->rlimit_count == RLIMITS)
		fail_with(E2BIG, "settings", record);
	s->rlimits[s->rlimit_count].resource = (int)number(&text, 10, RLIMITS - 1, record);
	s->rlimits[s->rlimit_count].limit.rlim_cur = number(&text, 10, UINT64_MAX, record);
	s->rlimits[s->rlimit_count].limit.rlim_max = only_number(text, 10, UINT64_MAX, record);
	s->rlimit_count++;
}

static uint64_t mask(const char *text, const char *record)
{
	return only_number(text, 16, UINT64_MAX, record);
}

static void take_record(struct settings *s, char *record)
{
	char *value;
	if ((value = value_of(record, "arg")))
		s->args[s->arg_count++] = value;
	else if ((value = value_of(record, "env")))
		s->env[s->env_count++] = value;
	else if ((value = value_of(record, "cwd")))
		s->cwd = value;
	else if ((value = value_of(record, "uid"))) /* -1 would mean "leave it" to setresuid(2) */
		s->uid = (uid_t)only_number(value, 10, UINT32_MAX - 1, record);
	else if ((value = value_of(record, "gid")))
		s->gid = (gid_t)only_number(value, 10, UINT32_MAX - 1, record);
	else if ((value = value_of(record, "group")))
		s->groups[s->group_count++] = (gid_t)only_number(value, 10, UINT32_MAX - 1, record);
	else if ((value = value_of(record, "bounding")))
		s->bounding = mask(value, record);
	else if ((value = value_of(record, "permitted")))
		s->permitted = mask(value, record);
	else if ((value = value_of(record, "effective")))
		s->effective = mask(value, record);
	else if ((value = value_of(record, "inheritable")))
		s->inheritable = mask(value, record);
	else if ((value = value_of(record, "ambient")))
		s->ambient = mask(value, record);
	else if ((value = value_of(record, "rlimit")))
		add_rlimit(s, value, record);
	else if ((value = value_of(record, "umask"))) {
		s->umask = (mode_t)only_number(value, 8, 0777, record);
		s->has_umask = 1;
	} else if ((value = value_of(record, "oom-score-adj")))
		s->oom_score_adj = value;
	else if (strcmp(record, "no-new-privs") == 0)
		s->no_new_privs = 1;
	else if (strcmp(record, "terminal") == 0)
		s->terminal = 1;
	else if (strcmp(record, "stay") == 0)
		s->stay = 1;
	else if (strcmp(record, "pass-on") == 0)
		s->pass_on = 1;
	else
		fail_with(EINVAL, "settings", "unknown record"); /* not shown: it may hold a secret */
}

/* The strings stay in a private mapping of the file, which the shim may unlink once this process has connected. */
void read_settings(struct settings *s)
{
	struct stat info;
	char *text, *record, *end;
	size_t records = 0;
	int fd = open(SETTINGS, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &info) < 0)
		fail("open", SETTINGS);
	if (info.st_size == 0)
		fail_with(EINVAL, "settings", "empty");
	text = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		fail("mmap", SETTINGS);
	close(fd);
	end = text + info.st_size;
	if (end[-1] != '\0' || strcmp(text, HEADER) != 0)
		fail_with(EINVAL, "settings", "not of the form " HEADER);
	for (record = text; record < end; record += strlen(record) + 1)
		records++;
	s->groups = zeroed(records, sizeof *s->groups);
	s->args = zeroed(records, sizeof *s->args);
	s->env = zeroed(records, sizeof *s->env); /* the header is a record too: there is room for the NULL at the end */
	s->cwd = "/";
	for (record = text + sizeof HEADER; record < end; record += strlen(record) + 1)
		take_record(s, record);
	if (s->arg_count == 0)
		fail_with(EINVAL, "settings", "no arg");
}
