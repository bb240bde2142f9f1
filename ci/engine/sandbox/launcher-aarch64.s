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
    mov x0, #3
    mov w1, #-1
    mov x2, #0
    mov x8, #436                    // close_range(3, ~0, 0)
    svc #0
    ldr w0, [x23]
    cbz w0, search
    ldr w0, [x23, #12]
    ldr w1, [x23, #16]
    add x1, x1, x23
    mov x8, #159                    // setgroups
    svc #0
    cbnz w0, unswitched
    ldr w0, [x23, #8]
    mov w1, w0
    mov w2, w0
    mov x8, #149                    // setresgid
    svc #0
    cbnz w0, unswitched
    ldr w0, [x23, #4]
    mov w1, w0
    mov w2, w0
    mov x8, #147                    // setresuid
    svc #0
    cbnz w0, unswitched
search:
    ldr w25, [x23, #44]
    add x25, x25, x23
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
    ldr w1, [x23, #20]
    ldr w2, [x23, #24]
    b report
refused:
    mov w26, #126
    ldr w1, [x23, #28]
    ldr w2, [x23, #32]
    b report
unswitched:
    mov w26, #125
    ldr w1, [x23, #36]
    ldr w2, [x23, #40]
report:
    add x1, x1, x23
    mov x0, #2
    mov x8, #64                     // write
    svc #0
    mov w0, w26
    mov x8, #94                     // exit_group
    svc #0
.balign 8
data:
