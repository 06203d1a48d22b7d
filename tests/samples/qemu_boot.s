.code16
.globl _start
_start:
  cli
  xorw %ax,%ax
  movw %ax,%ds
  movw %ax,%es
  movw %ax,%ss
  movw $0x7c00,%sp
  movb %dl, drive
  movw $24,%cx
loop1:
  pushw %cx
  # size: 1,2,..,: (cx & 7)*2+1 sectors
  movw %cx,%ax
  andw $7,%ax
  shlw $1,%ax
  incw %ax
  movw %ax, pcount
  movw %cx,%ax
  movw $37,%bx
  mulw %bx
  movw %ax, plba
  movb $0x42,%ah
  testw $1,%cx
  jz rd
  movb $0x43,%ah
rd:
  xorb %al,%al
  movw $packet,%si
  movb drive,%dl
  int $0x13
  popw %cx
  loop loop1
  # off: isa-debug-exit
  movw $0xf4,%dx
  xorb %al,%al
  outb %al,%dx
hang: hlt
  jmp hang
drive: .byte 0
packet: .byte 16,0
pcount: .word 1
  .word 0x8000
  .word 0
plba: .long 0
  .long 0
.org 510
.word 0xaa55
