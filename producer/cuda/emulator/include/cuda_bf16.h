// The hook takes the bits of these as they are.
#pragma once
