#include "plotter/bundled_fonts.hpp"

#include <fontconfig/fontconfig.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace moetrace::plot {
namespace {

constexpr const char* kSystemConfig = "/etc/fonts/fonts.conf";

// Fontconfig complains on standard error about a machine without its configuration file.
constexpr const char* kConfig =
    "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig>"
    "<dir>/usr/share/fonts</dir><dir>/usr/local/share/fonts</dir>"
    "<dir prefix=\"xdg\">fonts</dir><cachedir prefix=\"xdg\">fontconfig</cachedir>"
    "</fontconfig>";

bool has_config() {
  return std::getenv("FONTCONFIG_FILE") != nullptr || std::getenv("FONTCONFIG_PATH") != nullptr ||
         std::getenv("FONTCONFIG_SYSROOT") != nullptr || ::access(kSystemConfig, R_OK) == 0;
}

// The configuration lives until the program ends: releases of fontconfig differ in whether
// FcConfigSetCurrent() takes a reference of its own, so ours is not given back.
void use_own_config() {
  FcConfig* config = FcConfigCreate();
  if (config == nullptr) return;
  if (FcConfigParseAndLoadFromMemory(config, reinterpret_cast<const FcChar8*>(kConfig), FcTrue) &&
      FcConfigBuildFonts(config))
    FcConfigSetCurrent(config);
}

}  // namespace

void use_bundled_fonts() {
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return;
  const std::string folder =
      (self.parent_path().parent_path() / "share" / "moetrace" / "fonts").string();
  if (!std::filesystem::is_directory(folder, failed)) return;
  if (!has_config()) use_own_config();
  FcConfigAppFontAddDir(nullptr, reinterpret_cast<const FcChar8*>(folder.c_str()));
}

}  // namespace moetrace::plot
