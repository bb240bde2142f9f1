// As launcher-x86_64.s.
// aarch64-linux-gnu-as launcher-aarch64.s -o l.o && aarch64-linux-gnu-objcopy -O binary -j .text l.o l.bin
.text
.globl _start
_start:
    ldr x20, [sp]                   // argc
    add x21, sp, #16                // argv + 1: the command's argv
    add x22, x21, x20, lsl #3       // envp
    adr x23, data
    mov w24, #0                     // whether a candidate was there but could not be executed
    ldr x25, [x23]                  // the table
call:
    ldr x8, [x25]
    tbnz x8, #63, search
    ldp x0, x1, [x25, #32]
    ldp x2, x3, [x25, #48]
    ldp x4, x5, [x25, #64]
    svc #0
    cmn x0, #4095
    b.lo called
    ldr x0, [x25, #8]
    cbnz x0, called
    mov w26, #125
    ldp x1, x2, [x25, #16]
    b report
called:
    add x25, x25, #80
    b call
search:
    ldr x25, [x23, #8]
next:
    ldrb w0, [x25]
    cbz w0, failed
    mov x0, x25
    mov x1, x21
    mov x2, x22
    mov x8, #221                    // execve
    svc #0
    cmn w0, #2                      // ENOENT
    b.eq skip
    cmn w0, #20                     // ENOTDIR
    b.eq skip
    mov w24, #1
skip:
    ldrb w0, [x25], #1
    cbnz w0, skip
    b next
failed:
    cbnz w24, refused
    mov w26, #127
    ldp x1, x2, [x23, #16]
    b report
refused:
    mov w26, #126
    ldp x1, x2, [x23, #32]
report:
    mov x0, #2
    mov x8, #64                     // write
    svc #0
    mov w0, w26
    mov x8, #94                     // exit_group
    svc #0
.balign 8
data:
