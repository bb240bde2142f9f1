# Runs inside the sandbox, before the command: makes the system calls of a table, then executes
# the first candidate that can be executed. launcher.py appends header, table and what they point to.
# as launcher-x86_64.s -o l.o && objcopy -O binary -j .text l.o l.bin
.intel_syntax noprefix
.text
.globl _start
_start:
    mov r12, [rsp]                  # argc
    lea r13, [rsp+16]               # argv + 1: the command's argv
    lea r14, [rsp+r12*8+16]         # envp
    lea rbp, [rip+data]
    xor r15d, r15d                  # whether a candidate was there but could not be executed
    mov rbx, [rbp]                  # the table: number, is optional, message, its length, arguments
call:
    mov rax, [rbx]
    test rax, rax
    js search                       # a negative number ends it
    mov rdi, [rbx+32]
    mov rsi, [rbx+40]
    mov rdx, [rbx+48]
    mov r10, [rbx+56]
    mov r8, [rbx+64]
    mov r9, [rbx+72]
    syscall
    cmp rax, -4095
    jb called
    cmp qword ptr [rbx+8], 0
    jne called
    mov r12d, 125
    mov rsi, [rbx+16]
    mov rdx, [rbx+24]
    jmp report
called:
    add rbx, 80
    jmp call
search:
    mov rbx, [rbp+8]
next:
    cmp byte ptr [rbx], 0
    je failed
    mov rdi, rbx
    mov rsi, r13
    mov rdx, r14
    mov eax, 59                     # execve
    syscall
    cmp eax, -2                     # ENOENT
    je skip
    cmp eax, -20                    # ENOTDIR
    je skip
    mov r15d, 1
skip:
    inc rbx
    cmp byte ptr [rbx-1], 0
    jne skip
    jmp next
failed:
    test r15d, r15d
    jnz refused
    mov r12d, 127
    mov rsi, [rbp+16]
    mov rdx, [rbp+24]
    jmp report
refused:
    mov r12d, 126
    mov rsi, [rbp+32]
    mov rdx, [rbp+40]
report:
    mov edi, 2
    mov eax, 1                      # write(2, message, length)
    syscall
    mov edi, r12d
    mov eax, 231                    # exit_group
    syscall
.balign 8
data:
