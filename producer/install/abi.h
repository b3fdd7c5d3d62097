#include "../abi.h" /* moved: include <moetrace/abi.h> */
