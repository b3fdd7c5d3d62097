/* The layout that abi.h promises, asserted field by field: a change that moves a field fails to
 * compile. Compiled as C11, C++20 and CUDA (abi_compile_check.*), and with the library. */
#ifndef MOETRACE_SHM_ABI_LAYOUT_H
#define MOETRACE_SHM_ABI_LAYOUT_H

#include "shm/abi.h"

#ifdef __cplusplus
#define MOETRACE_ASSERT(condition, reason) static_assert(condition, reason)
#else
#define MOETRACE_ASSERT(condition, reason) _Static_assert(condition, reason)
#endif
#define MOETRACE_AT(type, field, offset) \
  MOETRACE_ASSERT(offsetof(type, field) == (offset), #type "." #field " is at byte " #offset)
#define MOETRACE_SIZE(type, bytes) \
  MOETRACE_ASSERT(sizeof(type) == (bytes), #type " has " #bytes " bytes")

MOETRACE_SIZE(moetrace_layer_mask, 32);
MOETRACE_AT(moetrace_layer_mask, words, 0);
MOETRACE_SIZE(moetrace_ring_header, 4096);
MOETRACE_AT(moetrace_ring_header, magic, 0);
MOETRACE_AT(moetrace_ring_header, abi_major, 8);
MOETRACE_AT(moetrace_ring_header, abi_minor, 10);
MOETRACE_AT(moetrace_ring_header, byte_order, 12);
MOETRACE_AT(moetrace_ring_header, trace_id, 16);
MOETRACE_AT(moetrace_ring_header, ring_bytes, 32);
MOETRACE_AT(moetrace_ring_header, ctl_bytes, 40);
MOETRACE_AT(moetrace_ring_header, header_bytes, 48);
MOETRACE_AT(moetrace_ring_header, route_stride, 52);
MOETRACE_AT(moetrace_ring_header, top_k, 56);
MOETRACE_AT(moetrace_ring_header, num_layers, 60);
MOETRACE_AT(moetrace_ring_header, num_experts, 64);
MOETRACE_AT(moetrace_ring_header, claimer, 68);
MOETRACE_AT(moetrace_ring_header, state_offset, 72);
MOETRACE_AT(moetrace_ring_header, request_offset, 80);
MOETRACE_AT(moetrace_ring_header, event_offset, 88);
MOETRACE_AT(moetrace_ring_header, route_offset, 96);
MOETRACE_AT(moetrace_ring_header, counts_offset, 104);
MOETRACE_AT(moetrace_ring_header, event_slots, 112);
MOETRACE_AT(moetrace_ring_header, route_slots, 120);
MOETRACE_AT(moetrace_ring_header, request_slots, 128);
MOETRACE_AT(moetrace_ring_header, flags, 132);
MOETRACE_AT(moetrace_ring_header, seed, 136);
MOETRACE_AT(moetrace_ring_header, created_realtime_ns, 144);
MOETRACE_AT(moetrace_ring_header, created_monotonic_ns, 152);
MOETRACE_AT(moetrace_ring_header, layers_logged, 160);
MOETRACE_AT(moetrace_ring_header, moe_layers, 192);
MOETRACE_AT(moetrace_ring_header, router_scaling, 224);
MOETRACE_AT(moetrace_ring_header, producer_pid, 232);
MOETRACE_AT(moetrace_ring_header, sample_every, 236);
MOETRACE_AT(moetrace_ring_header, rank, 240);
MOETRACE_AT(moetrace_ring_header, world_size, 244);
MOETRACE_AT(moetrace_ring_header, tp_rank, 248);
MOETRACE_AT(moetrace_ring_header, dp_rank, 252);
MOETRACE_AT(moetrace_ring_header, pp_rank, 256);
MOETRACE_AT(moetrace_ring_header, ep_rank, 260);
MOETRACE_AT(moetrace_ring_header, reserved0, 264);
MOETRACE_AT(moetrace_ring_header, model_id, 320);
MOETRACE_AT(moetrace_ring_header, engine, 576);
MOETRACE_AT(moetrace_ring_header, engine_version, 640);
MOETRACE_AT(moetrace_ring_header, vllm_version, 704);
MOETRACE_AT(moetrace_ring_header, torch_version, 768);
MOETRACE_AT(moetrace_ring_header, device, 832);
MOETRACE_AT(moetrace_ring_header, host, 896);
MOETRACE_AT(moetrace_ring_header, router_score, 1152);
MOETRACE_AT(moetrace_ring_header, router_groups, 1184);
MOETRACE_AT(moetrace_ring_header, router_topk_groups, 1188);
MOETRACE_AT(moetrace_ring_header, notes, 1192);
MOETRACE_AT(moetrace_ring_header, engine_id, 2216);
MOETRACE_AT(moetrace_ring_header, layer_table_offset, 2280);
MOETRACE_AT(moetrace_ring_header, reserved1, 2288);
MOETRACE_SIZE(moetrace_layer_entry, 64);
MOETRACE_AT(moetrace_layer_entry, experts, 0);
MOETRACE_AT(moetrace_layer_entry, zero_experts, 4);
MOETRACE_AT(moetrace_layer_entry, top_k, 8);
MOETRACE_AT(moetrace_layer_entry, flags, 12);
MOETRACE_AT(moetrace_layer_entry, groups, 16);
MOETRACE_AT(moetrace_layer_entry, topk_groups, 20);
MOETRACE_AT(moetrace_layer_entry, scaling, 24);
MOETRACE_AT(moetrace_layer_entry, score, 32);
MOETRACE_AT(moetrace_layer_entry, reserved, 56);

MOETRACE_SIZE(moetrace_host_counters, 64);
MOETRACE_AT(moetrace_host_counters, attempted, 0);
MOETRACE_AT(moetrace_host_counters, event_lost, 8);
MOETRACE_AT(moetrace_host_counters, steps, 16);
MOETRACE_AT(moetrace_host_counters, closed, 24);
MOETRACE_AT(moetrace_host_counters, events_claimed, 32);
MOETRACE_AT(moetrace_host_counters, announce_ns, 40);
MOETRACE_AT(moetrace_host_counters, hook_ns, 48);
MOETRACE_AT(moetrace_host_counters, reserved, 56);
MOETRACE_SIZE(moetrace_snapshot, 64);
MOETRACE_AT(moetrace_snapshot, number, 0);
MOETRACE_AT(moetrace_snapshot, steps_done, 8);
MOETRACE_AT(moetrace_snapshot, claimed, 16);
MOETRACE_AT(moetrace_snapshot, dropped, 24);
MOETRACE_AT(moetrace_snapshot, reserved, 32);
MOETRACE_SIZE(moetrace_counts_header, 64);
MOETRACE_AT(moetrace_counts_header, version, 0);
MOETRACE_AT(moetrace_counts_header, steps_done, 8);
MOETRACE_AT(moetrace_counts_header, reserved, 16);
MOETRACE_SIZE(moetrace_published, 64);
MOETRACE_AT(moetrace_published, routes, 0);
MOETRACE_AT(moetrace_published, reserved, 8);
MOETRACE_SIZE(moetrace_state, 4096);
MOETRACE_AT(moetrace_state, host, 0);
MOETRACE_AT(moetrace_state, snapshots, 64);
MOETRACE_AT(moetrace_state, counts, 192);
MOETRACE_AT(moetrace_state, published, 256);
MOETRACE_AT(moetrace_state, reserved, 320);
MOETRACE_SIZE(moetrace_request_entry, 320);
MOETRACE_AT(moetrace_request_entry, number_plus_1, 0);
MOETRACE_AT(moetrace_request_entry, begin_event, 8);
MOETRACE_AT(moetrace_request_entry, end_event, 16);
MOETRACE_AT(moetrace_request_entry, prompt_tokens, 24);
MOETRACE_AT(moetrace_request_entry, cached_tokens, 28);
MOETRACE_AT(moetrace_request_entry, id_bytes, 32);
MOETRACE_AT(moetrace_request_entry, reserved0, 36);
MOETRACE_AT(moetrace_request_entry, id, 40);
MOETRACE_AT(moetrace_request_entry, reserved1, 296);

MOETRACE_SIZE(moetrace_route_head, 16);
MOETRACE_AT(moetrace_route_head, seq, 0);
MOETRACE_AT(moetrace_route_head, step, 4);
MOETRACE_AT(moetrace_route_head, row, 8);
MOETRACE_AT(moetrace_route_head, layer, 12);
MOETRACE_AT(moetrace_route_head, flags, 14);
MOETRACE_SIZE(moetrace_route_record, 64);
MOETRACE_AT(moetrace_route_record, head, 0);
MOETRACE_AT(moetrace_route_record, expert, 16);
MOETRACE_AT(moetrace_route_record, weight, 32);

MOETRACE_SIZE(moetrace_event_commit, 8);
MOETRACE_AT(moetrace_event_commit, seq, 0);
MOETRACE_AT(moetrace_event_commit, kind, 4);
MOETRACE_AT(moetrace_event_commit, flags, 5);
MOETRACE_AT(moetrace_event_commit, slots, 6);
MOETRACE_SIZE(moetrace_step_event, 64);
MOETRACE_AT(moetrace_step_event, commit, 0);
MOETRACE_AT(moetrace_step_event, step, 8);
MOETRACE_AT(moetrace_step_event, time_ns, 16);
MOETRACE_AT(moetrace_step_event, rows, 24);
MOETRACE_AT(moetrace_step_event, spans, 28);
MOETRACE_AT(moetrace_step_event, layers, 32);
MOETRACE_AT(moetrace_step_event, reserved0, 36);
MOETRACE_AT(moetrace_step_event, reserved1, 40);
MOETRACE_SIZE(moetrace_span, 24);
MOETRACE_AT(moetrace_span, request, 0);
MOETRACE_AT(moetrace_span, first_position, 8);
MOETRACE_AT(moetrace_span, first_row, 16);
MOETRACE_AT(moetrace_span, rows, 20);
MOETRACE_SIZE(moetrace_span_event, 64);
MOETRACE_AT(moetrace_span_event, commit, 0);
MOETRACE_AT(moetrace_span_event, span, 8);
MOETRACE_AT(moetrace_span_event, reserved, 56);
MOETRACE_SIZE(moetrace_request_event, 64);
MOETRACE_AT(moetrace_request_event, commit, 0);
MOETRACE_AT(moetrace_request_event, request, 8);
MOETRACE_AT(moetrace_request_event, prompt_tokens, 16);
MOETRACE_AT(moetrace_request_event, cached_tokens, 20);
MOETRACE_AT(moetrace_request_event, id_bytes, 24);
MOETRACE_AT(moetrace_request_event, reserved, 28);
MOETRACE_AT(moetrace_request_event, id, 32);
MOETRACE_SIZE(moetrace_text_event, 64);
MOETRACE_AT(moetrace_text_event, commit, 0);
MOETRACE_AT(moetrace_text_event, text, 8);
MOETRACE_SIZE(moetrace_request_end_event, 64);
MOETRACE_AT(moetrace_request_end_event, commit, 0);
MOETRACE_AT(moetrace_request_end_event, request, 8);
MOETRACE_AT(moetrace_request_end_event, generated_tokens, 16);
MOETRACE_AT(moetrace_request_end_event, reserved0, 20);
MOETRACE_AT(moetrace_request_end_event, status, 24);
MOETRACE_AT(moetrace_request_end_event, reserved1, 56);
MOETRACE_SIZE(moetrace_control_event, 64);
MOETRACE_AT(moetrace_control_event, commit, 0);
MOETRACE_AT(moetrace_control_event, from_step, 8);
MOETRACE_AT(moetrace_control_event, enabled, 16);
MOETRACE_AT(moetrace_control_event, sample_every, 20);
MOETRACE_AT(moetrace_control_event, layers, 24);
MOETRACE_AT(moetrace_control_event, reserved, 56);
MOETRACE_SIZE(moetrace_tokens_event, 64);
MOETRACE_AT(moetrace_tokens_event, commit, 0);
MOETRACE_AT(moetrace_tokens_event, request, 8);
MOETRACE_AT(moetrace_tokens_event, first_position, 16);
MOETRACE_AT(moetrace_tokens_event, tokens, 24);
MOETRACE_AT(moetrace_tokens_event, id, 28);
MOETRACE_SIZE(moetrace_tokens_more_event, 64);
MOETRACE_AT(moetrace_tokens_more_event, commit, 0);
MOETRACE_AT(moetrace_tokens_more_event, id, 8);
MOETRACE_SIZE(moetrace_placed_expert, 4);
MOETRACE_AT(moetrace_placed_expert, expert, 0);
MOETRACE_AT(moetrace_placed_expert, rank, 2);
MOETRACE_SIZE(moetrace_placement_event, 64);
MOETRACE_AT(moetrace_placement_event, commit, 0);
MOETRACE_AT(moetrace_placement_event, from_step, 8);
MOETRACE_AT(moetrace_placement_event, layer, 16);
MOETRACE_AT(moetrace_placement_event, slots, 20);
MOETRACE_AT(moetrace_placement_event, placed, 24);
MOETRACE_SIZE(moetrace_placement_more_event, 64);
MOETRACE_AT(moetrace_placement_more_event, commit, 0);
MOETRACE_AT(moetrace_placement_more_event, placed, 8);

MOETRACE_SIZE(moetrace_ledger, 64);
MOETRACE_AT(moetrace_ledger, number, 0);
MOETRACE_AT(moetrace_ledger, route, 8);
MOETRACE_AT(moetrace_ledger, event, 16);
MOETRACE_AT(moetrace_ledger, attempted, 24);
MOETRACE_AT(moetrace_ledger, filtered, 32);
MOETRACE_AT(moetrace_ledger, dropped, 40);
MOETRACE_AT(moetrace_ledger, event_lost, 48);
MOETRACE_AT(moetrace_ledger, unclaimed, 56);
MOETRACE_SIZE(moetrace_control, 64);
MOETRACE_AT(moetrace_control, version, 0);
MOETRACE_AT(moetrace_control, enabled, 8);
MOETRACE_AT(moetrace_control, sample_every, 12);
MOETRACE_AT(moetrace_control, layers, 16);
MOETRACE_AT(moetrace_control, reserved, 48);
MOETRACE_SIZE(moetrace_ctl, 4096);
MOETRACE_AT(moetrace_ctl, magic, 0);
MOETRACE_AT(moetrace_ctl, abi_major, 8);
MOETRACE_AT(moetrace_ctl, abi_minor, 10);
MOETRACE_AT(moetrace_ctl, byte_order, 12);
MOETRACE_AT(moetrace_ctl, trace_id, 16);
MOETRACE_AT(moetrace_ctl, reserved0, 32);
MOETRACE_AT(moetrace_ctl, route_consumed, 64);
MOETRACE_AT(moetrace_ctl, reserved1, 72);
MOETRACE_AT(moetrace_ctl, event_consumed, 128);
MOETRACE_AT(moetrace_ctl, reserved2, 136);
MOETRACE_AT(moetrace_ctl, collector_generation, 192);
MOETRACE_AT(moetrace_ctl, collector_pid, 200);
MOETRACE_AT(moetrace_ctl, reserved3, 208);
MOETRACE_AT(moetrace_ctl, ledger, 256);
MOETRACE_AT(moetrace_ctl, control, 384);
MOETRACE_AT(moetrace_ctl, reserved4, 448);
MOETRACE_AT(moetrace_ctl, written, 512);
MOETRACE_AT(moetrace_ctl, reserved5, 576);

#endif
