/* What differs between versions of these programs. */
#pragma once

#define KEY_A 0
#define KEY_B 1
#define RESULT TC_ACT_UNSPEC
