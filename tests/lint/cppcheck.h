/*
 * cppcheck.h - what cppcheck, which reads no system header, must know of them.
 */
#pragma once

#define json_array_foreach(array, index, value) \
	for (index = 0; (value = json_array_get(array, index)) != 0; index++)
#define json_object_foreach(object, key, value) \
	while ((key = json_next_key(object)) != 0 && (value = json_next_value(object)) != 0)
