/* A user's program: prints how many rows the trace on standard input has. */
#include <moetrace/reader.h>
#include <stdio.h>

int main(void) {
  static char text[1 << 20];
  const size_t bytes = fread(text, 1, sizeof text, stdin);
  moetrace_reader_place place = {.byte = 0, .line = 1};
  moetrace_reader* reader = moetrace_reader_begin(0);
  if (moetrace_reader_read_last(reader, text, bytes, &place, NULL, MOETRACE_READER_ALL) < 0)
    return 1;
  moetrace_reader_request request = {.size = sizeof request};
  long long rows = 0;
  for (uint64_t n = 0; moetrace_reader_get_request(reader, n, &request); ++n) rows += request.rows;
  printf("%lld rows\n", rows);
  moetrace_reader_close(reader);
  return 0;
}
