;; Checksums of PostgreSQL data pages, 16 bytes at a time.
;;
;; A page is a table of 32 columns of 32-bit words. Each column is hashed by itself, down its rows, with a variant of
;; FNV-1a: t = sum ^ word; sum = t * 16777619 ^ t >> 17. Two rows of zeros follow, then the columns and the block number
;; are folded together by xor, and the result is brought to 1..65535. Eight vectors of four columns each fit the
;; registers of every CPU in question, so the loop over the rows touches memory only to read the page.
;;
;; Source: PostgreSQL, src/include/storage/checksum_impl.h and bufpage.h
(module
  (import "env" "memory" (memory 1))

  ;; The checksum that the page at $page, of $size bytes, must carry as block $block of its relation.
  (func $checksum (export "checksum") (param $page i32) (param $size i32) (param $block i32) (result i32)
    (local $end i32) (local $prime v128) (local $t v128)
    (local $s0 v128) (local $s1 v128) (local $s2 v128) (local $s3 v128) (local $s4 v128) (local $s5 v128) (local $s6 v128) (local $s7 v128)
    (local.set $end (i32.add (local.get $page) (local.get $size)))
    (local.set $prime (v128.const i32x4 16777619 16777619 16777619 16777619))
    (local.set $s0 (v128.const i32x4 0x5b1f36e9 0xb8525960 0x02ab50aa 0x1de66d2a))
    (local.set $s1 (v128.const i32x4 0x79ff467a 0x9bb9f8a3 0x217e7cd2 0x83e13d2c))
    (local.set $s2 (v128.const i32x4 0xf8d4474f 0xe39eb970 0x42c6ae16 0x993216fa))
    (local.set $s3 (v128.const i32x4 0x7b093b5d 0x98daff3c 0xf718902a 0x0b1c9cdb))
    (local.set $s4 (v128.const i32x4 0xe58f764b 0x187636bc 0x5d7b3bb1 0xe73de7de))
    (local.set $s5 (v128.const i32x4 0x92bec979 0xcca6c0b2 0x304a0979 0x85aa43d4))
    (local.set $s6 (v128.const i32x4 0x783125bb 0x6ca8eaa2 0xe407eac6 0x4b5cfc3e))
    (local.set $s7 (v128.const i32x4 0x9fbf8c76 0x15ca20be 0xf2ca9fd3 0x959bd756))

    ;; The stored checksum, the low half of word 2, counts as zero. Put into the sum beforehand, it cancels itself out
    ;; when word 2 is mixed in, so the page is neither written to nor masked.
    (local.set $s0 (v128.xor (local.get $s0)
      (i32x4.replace_lane 2 (v128.const i32x4 0 0 0 0) (i32.load16_u offset=8 (local.get $page)))))

    (loop $row
      (local.set $t (v128.xor (local.get $s0) (v128.load (local.get $page))))
      (local.set $s0 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s1) (v128.load offset=16 (local.get $page))))
      (local.set $s1 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s2) (v128.load offset=32 (local.get $page))))
      (local.set $s2 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s3) (v128.load offset=48 (local.get $page))))
      (local.set $s3 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s4) (v128.load offset=64 (local.get $page))))
      (local.set $s4 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s5) (v128.load offset=80 (local.get $page))))
      (local.set $s5 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s6) (v128.load offset=96 (local.get $page))))
      (local.set $s6 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $t (v128.xor (local.get $s7) (v128.load offset=112 (local.get $page))))
      (local.set $s7 (v128.xor (i32x4.mul (local.get $t) (local.get $prime)) (i32x4.shr_u (local.get $t) (i32.const 17))))
      (local.set $page (i32.add (local.get $page) (i32.const 128)))
      (br_if $row (i32.lt_u (local.get $page) (local.get $end))))

    ;; Two rows of zeros, so that the last words are mixed as well as the first ones.
    (local.set $s0 (v128.xor (i32x4.mul (local.get $s0) (local.get $prime)) (i32x4.shr_u (local.get $s0) (i32.const 17))))
    (local.set $s1 (v128.xor (i32x4.mul (local.get $s1) (local.get $prime)) (i32x4.shr_u (local.get $s1) (i32.const 17))))
    (local.set $s2 (v128.xor (i32x4.mul (local.get $s2) (local.get $prime)) (i32x4.shr_u (local.get $s2) (i32.const 17))))
    (local.set $s3 (v128.xor (i32x4.mul (local.get $s3) (local.get $prime)) (i32x4.shr_u (local.get $s3) (i32.const 17))))
    (local.set $s4 (v128.xor (i32x4.mul (local.get $s4) (local.get $prime)) (i32x4.shr_u (local.get $s4) (i32.const 17))))
    (local.set $s5 (v128.xor (i32x4.mul (local.get $s5) (local.get $prime)) (i32x4.shr_u (local.get $s5) (i32.const 17))))
    (local.set $s6 (v128.xor (i32x4.mul (local.get $s6) (local.get $prime)) (i32x4.shr_u (local.get $s6) (i32.const 17))))
    (local.set $s7 (v128.xor (i32x4.mul (local.get $s7) (local.get $prime)) (i32x4.shr_u (local.get $s7) (i32.const 17))))
    (local.set $s0 (v128.xor (i32x4.mul (local.get $s0) (local.get $prime)) (i32x4.shr_u (local.get $s0) (i32.const 17))))
    (local.set $s1 (v128.xor (i32x4.mul (local.get $s1) (local.get $prime)) (i32x4.shr_u (local.get $s1) (i32.const 17))))
    (local.set $s2 (v128.xor (i32x4.mul (local.get $s2) (local.get $prime)) (i32x4.shr_u (local.get $s2) (i32.const 17))))
    (local.set $s3 (v128.xor (i32x4.mul (local.get $s3) (local.get $prime)) (i32x4.shr_u (local.get $s3) (i32.const 17))))
    (local.set $s4 (v128.xor (i32x4.mul (local.get $s4) (local.get $prime)) (i32x4.shr_u (local.get $s4) (i32.const 17))))
    (local.set $s5 (v128.xor (i32x4.mul (local.get $s5) (local.get $prime)) (i32x4.shr_u (local.get $s5) (i32.const 17))))
    (local.set $s6 (v128.xor (i32x4.mul (local.get $s6) (local.get $prime)) (i32x4.shr_u (local.get $s6) (i32.const 17))))
    (local.set $s7 (v128.xor (i32x4.mul (local.get $s7) (local.get $prime)) (i32x4.shr_u (local.get $s7) (i32.const 17))))

    (local.set $t
      (v128.xor
        (v128.xor (v128.xor (local.get $s0) (local.get $s1)) (v128.xor (local.get $s2) (local.get $s3)))
        (v128.xor (v128.xor (local.get $s4) (local.get $s5)) (v128.xor (local.get $s6) (local.get $s7)))))
    (i32.add (i32.const 1) (i32.rem_u
      (i32.xor (local.get $block) (i32.xor
        (i32.xor (i32x4.extract_lane 0 (local.get $t)) (i32x4.extract_lane 1 (local.get $t)))
        (i32.xor (i32x4.extract_lane 2 (local.get $t)) (i32x4.extract_lane 3 (local.get $t)))))
      (i32.const 65535))))

  ;; Whether every byte from $at to $end is zero.
  (func $isZero (param $at i32) (param $end i32) (result i32)
    (loop $next
      (if (v128.any_true (v128.load (local.get $at))) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i32.const 1))

  ;; Checks $count pages from $page on, the first being block $block. Writes the index of each bad one to $output, as
  ;; 32-bit words, and returns how many there are.
  (func (export "check")
    (param $page i32) (param $size i32) (param $count i32) (param $block i32) (param $output i32) (result i32)
    (local $index i32) (local $bad i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $count)))
        ;; pd_upper is zero only on a page that was never initialised, which carries no checksum and must be all zeros.
        (if
          (if (result i32) (i32.load16_u offset=14 (local.get $page))
            (then
              (i32.ne
                (i32.load16_u offset=8 (local.get $page))
                (call $checksum
                  (local.get $page) (local.get $size) (i32.add (local.get $block) (local.get $index)))))
            (else
              (i32.eqz (call $isZero (local.get $page) (i32.add (local.get $page) (local.get $size))))))
          (then
            (i32.store (i32.add (local.get $output) (i32.shl (local.get $bad) (i32.const 2))) (local.get $index))
            (local.set $bad (i32.add (local.get $bad) (i32.const 1)))))
        (local.set $page (i32.add (local.get $page) (local.get $size)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (local.get $bad)))
