/* A user's program: traces one pass into the directory of its argument and removes the segment. */
#include <moetrace/abi.h>
#include <moetrace/producer.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.directory = argv[1];
  options.session = "consumer";
  options.ring_mb = 0.0625;
  options.layers = "all";
  options.sample_every = 1;
  options.num_layers = 1;
  options.num_experts = 4;
  options.top_k = 2;
  char error[256];
  moetrace_producer* producer = moetrace_open(&options, error, sizeof error);
  if (producer == NULL) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  const moetrace_span span = {.request = moetrace_request_begin(producer, "r0", 1, 0), .rows = 1};
  moetrace_step_begin(producer, 1, &span, 1);
  const int64_t ids[] = {3, 1};
  const float weights[] = {0.5f, 0.25f};
  moetrace_record(producer, 0, ids, MOETRACE_INT64, weights, MOETRACE_FLOAT32, 1);
  moetrace_totals totals = {.size = sizeof totals};
  moetrace_get_totals(producer, &totals);
  char path[512];
  const char* const endings[] = {"ring", "ctl"};
  for (int n = 0; n < 2; ++n) {
    snprintf(path, sizeof path, "%s/moetrace.v1.consumer.%s.%s", argv[1],
             moetrace_trace_id(producer), endings[n]);
    if (unlink(path) != 0) return 1;
  }
  moetrace_close(producer);
  return totals.recorded == 1 && totals.dropped == 0 ? 0 : 1;
}
