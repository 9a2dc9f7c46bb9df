# hostline-reseed: puts what it reads, at most 512 bytes, into the kernel's random numbers, counts it as random, and has
# all that come after drawn from it (RNDADDENTROPY, RNDRESEEDCRNG of random(4)); the exit status is 0 if that worked.
# No shell can do so, and a guest that went on from another's memory must. build_guest.sh has the program that this is:
#   as reseed.s -o reseed.o && ld -N -s -z noseparate-code reseed.o -o reseed && base64 -w 100 reseed
        .globl  _start
        .text
_start: lea     buffer(%rip), %rbx
        xor     %edi, %edi              # read(0, buffer + 8, 512)
        lea     8(%rbx), %rsi
        mov     $512, %edx
        xor     %eax, %eax
        syscall
        test    %rax, %rax
        jle     fail
        mov     %eax, 4(%rbx)           # struct rand_pool_info: bits, bytes, the bytes
        shl     $3, %eax
        mov     %eax, (%rbx)
        lea     path(%rip), %rdi        # open("/dev/random", O_RDWR)
        mov     $2, %esi
        xor     %edx, %edx
        mov     $2, %eax
        syscall
        test    %rax, %rax
        js      fail
        mov     %eax, %ebp
        mov     %ebp, %edi              # ioctl(fd, RNDADDENTROPY, buffer)
        mov     $0x40085203, %esi
        mov     %rbx, %rdx
        mov     $16, %eax
        syscall
        test    %rax, %rax
        jnz     fail
        mov     %ebp, %edi              # ioctl(fd, RNDRESEEDCRNG, 0)
        mov     $0x5207, %esi
        xor     %edx, %edx
        mov     $16, %eax
        syscall
        xor     %edi, %edi
        test    %rax, %rax
        jz      exit
fail:   mov     $1, %edi
exit:   mov     $60, %eax
        syscall
path:   .asciz  "/dev/random"
        .bss
        .balign 8
buffer: .skip   520
