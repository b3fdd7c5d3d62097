// The letters of the pictures on a machine without fonts.
#pragma once

#include <string_view>

namespace moetrace::plot {

// Adds the fonts in ../share/moetrace/fonts, seen from this program's folder, where that exists, as
// in the Python wheel. Other fonts of this machine stay in use if `text`, UTF-8, has letters that
// these lack. Call it before the first text.
void use_bundled_fonts(std::string_view text);

}  // namespace moetrace::plot
