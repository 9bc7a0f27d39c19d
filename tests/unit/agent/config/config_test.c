/*
 * Options: precedence, units, clear errors with line and column.
 */
#include <stdio.h>
#include <unistd.h>

#include "agent/config/config.h"
#include "tests/t.h"

static char path[] = "/tmp/comfymon-config-XXXXXX";

static void
write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		exit(2);
	fputs(text, f);
	fclose(f);
}

static enum err
load(const char *text, struct config **c, char *error)
{
	write_file(text);
	return config_load(path, NULL, 0, c, error);
}

TEST(gives_every_option_a_default)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	REQUIRE(load("{}", &c, error) == E_OK);
	CHECK_STR(config_string(c, OPT_SERVICE), "comfyui-inference");
	CHECK_EQ(config_number(c, OPT_STORE_CAP), 1ull << 30);
	CHECK_EQ(config_number(c, OPT_STORE_AGE), 7ull * 86400 * 1000);
	CHECK(config_string(c, OPT_RUN_DIR)[0] == '/');
	CHECK(config_string(c, OPT_DATA_DIR)[0] == '/');
	CHECK_STR(config_string(c, OPT_SAMPLE_RATE), "");
	config_free(c);
}

TEST(lets_the_environment_win_over_the_file_and_the_command_line_over_both)
{
	const char *sets[] = { "env=cli" };
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES], origin[400];

	write_file("{\n  // a comment\n  \"service\": \"from-file\", # another\n  \"env\": \"f\",\n"
		   "  \"version\": \"f\" }");
	setenv("DD_SERVICE", "from-env", 1);
	setenv("DD_ENV", "e", 1);
	REQUIRE(config_load(path, sets, 1, &c, error) == E_OK);
	unsetenv("DD_SERVICE");
	unsetenv("DD_ENV");
	CHECK_STR(config_string(c, OPT_SERVICE), "from-env");
	CHECK_STR(config_string(c, OPT_ENV), "cli");
	CHECK_STR(config_string(c, OPT_VERSION), "f");
	CHECK_STR(
	    config_origin_text(c, OPT_SERVICE, origin, sizeof origin), "environment DD_SERVICE");
	CHECK_STR(config_origin_text(c, OPT_ENV, origin, sizeof origin), "command line");
	CHECK(strstr(config_origin_text(c, OPT_VERSION, origin, sizeof origin), ":5:3") != NULL);
	CHECK(config_mentions_datadog(c));
	config_free(c);
}

TEST(names_line_and_column_of_an_unknown_key)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	CHECK_EQ(load("{\n  \"store\": {\n    \"cup\": \"1G\"\n  }\n}", &c, error), E_INVAL);
	CHECK(strstr(error, ":3:5: unknown key \"store.cup\"") != NULL);
	CHECK(c == NULL);
}

TEST(names_line_and_column_of_a_bad_value)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	CHECK_EQ(load("{\"agent\": {\n\"port\": 99999}}", &c, error), E_INVAL);
	CHECK(strstr(error, ":2:1: agent.port: \"99999\" is out of range") != NULL);
	CHECK(strstr(error, "from 1 to 65535") != NULL);
	CHECK_EQ(load("{\"store\": {\"cap\": 1}}", &c, error), E_INVAL);
	CHECK(strstr(error, "at least 64 MiB") != NULL);
	CHECK_EQ(load("{\"store\": {\"cap\": \"lots\"}}", &c, error), E_INVAL);
	CHECK(strstr(error, "expected a size such as") != NULL);
	CHECK_EQ(load("{\"drain\": [1]}", &c, error), E_INVAL);
	CHECK(strstr(error, ":1:2: drain: expected a text") != NULL);
	CHECK_EQ(load("{\"trace\": {\"sampling_rules\": \"{}\"}}", &c, error), E_INVAL);
	CHECK(strstr(error, "expected a JSON array") != NULL);
}

TEST(names_line_and_column_of_a_syntax_error)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	CHECK_EQ(load("{\n\"service\": }", &c, error), E_INVAL);
	CHECK(strstr(error, ":2:12:") != NULL);
	CHECK_EQ(load("[]", &c, error), E_INVAL);
	CHECK_EQ(load("{\"service\": \"a\", \"service\": \"b\"}", &c, error), E_INVAL);
}

TEST(names_the_variable_of_a_bad_environment_value)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	write_file("{}");
	setenv("DD_TRACE_SAMPLE_RATE", "1.5", 1);
	CHECK_EQ(config_load(path, NULL, 0, &c, error), E_INVAL);
	unsetenv("DD_TRACE_SAMPLE_RATE");
	CHECK(strstr(error, "environment DD_TRACE_SAMPLE_RATE: expected a number from 0 to 1") !=
	      NULL);
}

TEST(takes_an_empty_variable_for_none)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	write_file("{\"service\": \"x\"}");
	setenv("DD_SERVICE", "", 1);
	REQUIRE(config_load(path, NULL, 0, &c, error) == E_OK);
	unsetenv("DD_SERVICE");
	CHECK_STR(config_string(c, OPT_SERVICE), "x");
	config_free(c);
}

TEST(takes_directories_by_absolute_paths_alone)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];

	CHECK_EQ(load("{ \"run_dir\": \"here\" }", &c, error), E_INVAL);
	CHECK(strstr(error, "run_dir") != NULL && strstr(error, "an absolute path") != NULL);
	CHECK_EQ(load("{ \"data_dir\": \"../there\" }", &c, error), E_INVAL);
	REQUIRE(load("{ \"run_dir\": \"/a\", \"data_dir\": \"\" }", &c, error) == E_OK);
	CHECK_STR(config_string(c, OPT_RUN_DIR), "/a");
	config_free(c);
}

TEST(reads_units)
{
	static const struct {
		enum option o;
		const char *text;
		uint64_t want;
	} rows[] = {
		{ OPT_STORE_CAP, "64M", 64ull << 20 },
		{ OPT_STORE_CAP, "1.5 GiB", 3ull << 29 },
		{ OPT_STORE_CAP, "1tb", 1ull << 40 },
		{ OPT_DRAIN, "500ms", 500 },
		{ OPT_DRAIN, "0s", 0 },
		{ OPT_HTTP_SILENT, "0", 0 }, /* "0 never" */
		{ OPT_STORE_AGE, "7d", 604800000 },
	};
	char why[200];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t n = 0;

		CHECK_EQ(config_parse(rows[i].o, rows[i].text, &n, why, sizeof why), E_OK);
		CHECK_EQ(n, rows[i].want);
	}

	uint64_t n = 0;

	CHECK_EQ(config_parse(OPT_DRAIN, "5", &n, why, sizeof why), E_INVAL);
	CHECK_EQ(config_parse(OPT_STORE_CAP, "0", &n, why, sizeof why), E_INVAL);
	CHECK_EQ(config_parse(OPT_STORE_CAP, "-1G", &n, why, sizeof why), E_INVAL);
	CHECK_EQ(config_parse(OPT_STORE_CAP, "1e30G", &n, why, sizeof why), E_INVAL);
	CHECK_EQ(config_parse(OPT_AGENT_PORT, "80x", &n, why, sizeof why), E_INVAL);
	CHECK_EQ(config_parse(OPT_SAMPLE_RATE, "nan", &n, why, sizeof why), E_INVAL);
}

TEST(reads_back_the_default_file_that_it_prints)
{
	struct config *c = NULL;
	char error[CONFIG_ERROR_BYTES];
	FILE *f = fopen(path, "w");

	REQUIRE(f != NULL);
	config_print_default(f);
	fclose(f);
	CHECK_EQ(config_load(path, NULL, 0, &c, error), E_OK);
	CHECK_STR(error, "");
	config_free(c);
}

TEST(takes_a_web_address_for_a_webhook_and_repeats_no_part_of_a_bad_one)
{
	static const char *const bad[] = { "ftp://h/", "hooks.example/key", "http://",
		"https:///key", "http://h/a b", "http://h/\nkey", "file:///etc/key" };
	uint64_t number;
	char why[200];

	CHECK_EQ(config_parse(OPT_WEBHOOK_URL, "http://h", &number, why, sizeof why), E_OK);
	CHECK_EQ(
	    config_parse(OPT_WEBHOOK_URL, "https://u:p@[::1]:8/k?x=y", &number, why, sizeof why),
	    E_OK);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		CHECK_EQ(config_parse(OPT_WEBHOOK_URL, bad[i], &number, why, sizeof why), E_INVAL);
		CHECK(strstr(why, "key") == NULL);
	}
}

TEST(takes_a_secret_that_has_room_and_repeats_none)
{
	char longest[300], why[200] = "";
	uint64_t number;

	memset(longest, 'k', sizeof longest);
	longest[255] = '\0';
	CHECK_EQ(config_parse(OPT_WEBHOOK_SECRET, longest, &number, why, sizeof why), E_OK);
	longest[255] = 'k';
	longest[256] = '\0';
	CHECK_EQ(config_parse(OPT_WEBHOOK_SECRET, longest, &number, why, sizeof why), E_INVAL);
	CHECK(strstr(why, "kk") == NULL);
}

int
main(void)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return 2;
	close(fd);
	RUN(gives_every_option_a_default);
	RUN(lets_the_environment_win_over_the_file_and_the_command_line_over_both);
	RUN(names_line_and_column_of_an_unknown_key);
	RUN(names_line_and_column_of_a_bad_value);
	RUN(names_line_and_column_of_a_syntax_error);
	RUN(names_the_variable_of_a_bad_environment_value);
	RUN(takes_an_empty_variable_for_none);
	RUN(takes_directories_by_absolute_paths_alone);
	RUN(reads_units);
	RUN(reads_back_the_default_file_that_it_prints);
	unlink(path);
	RUN(takes_a_web_address_for_a_webhook_and_repeats_no_part_of_a_bad_one);
	RUN(takes_a_secret_that_has_room_and_repeats_none);
	return t_done();
}
