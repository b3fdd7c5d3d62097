/* A user's program that was written for the header paths of 0.1. */
#include <moetrace/producer/producer.h>
#include <moetrace/shm/abi.h>

int main(void) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  return options.size == sizeof options && options.cuda_device == -1 ? 0 : 1;
}
