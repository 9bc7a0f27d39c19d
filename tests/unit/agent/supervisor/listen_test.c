/*
 * Where a command line says that ComfyUI listens.
 */
#include "agent/supervisor/listen.h"

#include <arpa/inet.h>

#include "tests/t.h"

static const char *
address(const struct listen *l)
{
	static char text[INET6_ADDRSTRLEN];
	const void *raw = l->to.ss_family == AF_INET6
			      ? (const void *)&((const struct sockaddr_in6 *)&l->to)->sin6_addr
			      : (const void *)&((const struct sockaddr_in *)&l->to)->sin_addr;

	return inet_ntop(l->to.ss_family, raw, text, sizeof text);
}

TEST(understands_what_comfyui_understands)
{
	static const struct {
		const char *words[8];
		const char *address;
		uint16_t port;
		bool tls;
	} rows[] = {
		{ { "python", "main.py" }, "127.0.0.1", 8188, false },
		{ { "python", "main.py", "--port", "8200" }, "127.0.0.1", 8200, false },
		{ { "python", "main.py", "--port=8201", "--listen" }, "127.0.0.1", 8201, false },
		{ { "main.py", "--port", "1", "--port", "2" }, "127.0.0.1", 2, false },
		{ { "main.py", "--listen", "--port", "8202" }, "127.0.0.1", 8202, false },
		{ { "main.py", "--listen", "0.0.0.0,::" }, "127.0.0.1", 8188, false },
		{ { "main.py", "--listen=::" }, "::1", 8188, false },
		{ { "main.py", "--listen", "192.0.2.7,127.0.0.1" }, "192.0.2.7", 8188, false },
		{ { "main.py", "--listen", "2001:db8::7", "--port", "80" }, "2001:db8::7", 80,
		    false },
		{ { "main.py", "--tls-keyfile", "k", "--tls-certfile", "c" }, "127.0.0.1", 8188,
		    true },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct listen l;
		const struct sockaddr_in *four = (const struct sockaddr_in *)&l.to;

		listen_of((char *const *)(uintptr_t)rows[i].words, &l);
		CHECK_STR(address(&l), rows[i].address);
		CHECK_EQ(l.port, rows[i].port);
		CHECK_EQ(ntohs(four->sin_port), rows[i].port); /* the same place in both families */
		CHECK_EQ(l.tls, rows[i].tls);
	}
}

TEST(takes_the_default_for_what_it_does_not_understand)
{
	static const char *const rows[][4] = {
		{ "main.py", "--port", "0" },
		{ "main.py", "--port", "70000" },
		{ "main.py", "--port", "8x" },
		{ "main.py", "--port" },
		{ "main.py", "--port=" },
		{ "main.py", "--portal", "9" },
		{ "main.py", "--listen", "a.host.name" },
		{ "main.py", "--listen",
		    "0123456789012345678901234567890123456789012345678901234567890" },
		{ "main.py", "--listen=" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct listen l;

		listen_of((char *const *)(uintptr_t)rows[i], &l);
		CHECK_STR(address(&l), "127.0.0.1");
		CHECK_EQ(l.port, 8188);
	}
}

int
main(void)
{
	RUN(understands_what_comfyui_understands);
	RUN(takes_the_default_for_what_it_does_not_understand);
	return t_done();
}
