/*
 * migrations.h - the SQL of schema/sql, embedded at build time in file order:
 * the n-th text takes a database from user_version n to n + 1.
 */
#pragma once

#include <stddef.h>

extern const char *const store_migrations[];
extern const size_t store_migration_count;

/* schema/jobs/jobs.sql, of a new jobs.db. */
extern const char projection_schema[];
