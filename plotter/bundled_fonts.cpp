#include "plotter/bundled_fonts.hpp"

#include <fontconfig/fontconfig.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "common/utf8.hpp"

namespace moetrace::plot {
namespace {

// The fontconfig in the wheel complains on standard error about a machine without a configuration
// file, and about one that a newer fontconfig wrote. It also leaves a file .uuid in each folder of
// fonts that it lists. So it lists folders only for letters that the bundled fonts lack.
constexpr const char* kBundledAlone =
    "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig/>";
constexpr const char* kAllFonts =
    "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig>"
    "<dir>/usr/share/fonts</dir><dir>/usr/local/share/fonts</dir>"
    "<dir prefix=\"xdg\">fonts</dir><cachedir prefix=\"xdg\">fontconfig</cachedir>"
    "</fontconfig>";

const FcChar8* fc(const char* text) {
  return reinterpret_cast<const FcChar8*>(text);
}

bool user_chose_a_config() {
  return std::getenv("FONTCONFIG_FILE") != nullptr || std::getenv("FONTCONFIG_PATH") != nullptr ||
         std::getenv("FONTCONFIG_SYSROOT") != nullptr;
}

bool has_letters(const std::string& font, std::string_view text) {
  int faces = 0;
  FcPattern* pattern = FcFreeTypeQuery(fc(font.c_str()), 0, nullptr, &faces);
  FcCharSet* letters = nullptr;
  bool all =
      pattern != nullptr && FcPatternGetCharSet(pattern, FC_CHARSET, 0, &letters) == FcResultMatch;
  for (size_t at = 0; all && at < text.size();) {
    const CodePoint letter = decode_utf8(text, at);
    all = FcCharSetHasChar(letters, letter.value) != FcFalse;
    at += letter.bytes;
  }
  if (pattern != nullptr) FcPatternDestroy(pattern);
  return all;
}

// The configuration lives until the program ends: releases of fontconfig differ in whether
// FcConfigSetCurrent() takes a reference of its own, so ours is not given back.
void use_config(const char* text) {
  FcConfig* config = FcConfigCreate();
  if (config == nullptr) return;
  if (FcConfigParseAndLoadFromMemory(config, fc(text), FcTrue) && FcConfigBuildFonts(config))
    FcConfigSetCurrent(config);
}

}  // namespace

void use_bundled_fonts(std::string_view text) {
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return;
  const auto folder = self.parent_path().parent_path() / "share" / "moetrace" / "fonts";
  const std::string regular = folder / "DejaVuSans.ttf";
  if (!std::filesystem::exists(regular, failed)) return;
  if (!user_chose_a_config()) use_config(has_letters(regular, text) ? kBundledAlone : kAllFonts);
  for (const std::string& font : {regular, (folder / "DejaVuSans-Bold.ttf").string()})
    FcConfigAppFontAddFile(nullptr, fc(font.c_str()));
}

}  // namespace moetrace::plot
