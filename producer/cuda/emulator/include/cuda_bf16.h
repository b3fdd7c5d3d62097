// Empty: the hook handles bfloat16 values as bits.
#pragma once
