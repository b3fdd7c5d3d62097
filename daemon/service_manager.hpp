// Tells systemd how far the service has come.
#pragma once

namespace moetrace {

// Sends `state`, such as "READY=1", to the service manager that started us: sd_notify() without
// libsystemd. Does nothing where none asks for it, and when it fails.
void tell_service_manager(const char* state);

}  // namespace moetrace
