#include <stddef.h>

/* Written so that a compiler can use vectors: every byte is stored, changed or not. */
static inline void upper(char *bytes, size_t length) {
#ifdef UPPER
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = bytes[i];
        bytes[i] = byte - ((unsigned char)(byte - 'a') < 26 ? 'a' - 'A' : 0);
    }
#else
    (void)bytes, (void)length;
#endif
}
