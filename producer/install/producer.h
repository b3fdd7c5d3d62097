#include "../producer.h" /* moved: include <moetrace/producer.h> */
