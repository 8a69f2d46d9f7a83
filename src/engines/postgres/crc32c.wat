;; CRC-32C of records of the log, sixteen bytes a step.
;;
;; Sixteen tables ("slicing by 16"): table n holds the CRC of each byte followed by n zero bytes. A step takes two words of
;; eight bytes, the CRC so far mixed into the first four, and looks up each byte in the table of as many zeros as bytes
;; follow it. What is left at the end goes through fewer tables, the last three byte by byte. The tables are at the start
;; of the memory, 1,024 bytes each, written there by crc32c.ts.
;;
;; Source: PostgreSQL, src/port/pg_crc32c_sb8.c, which does the same with eight
(module
  (import "env" "memory" (memory 2))

  ;; Adds the bytes from $at up to $end to $crc, which is not inverted.
  (func $update (export "update") (param $crc i32) (param $at i32) (param $end i32) (result i32)
    (local $lo i64) (local $hi i64)
    (block $done
      (loop $l
        (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 16)) (local.get $end)))
        (local.set $lo (i64.xor (i64.load align=1 (local.get $at)) (i64.extend_i32_u (local.get $crc))))
        (local.set $hi (i64.load offset=8 align=1 (local.get $at)))
        (local.set $crc
          (i32.xor
          (i32.xor
           (i32.xor
            (i32.xor (i32.load offset=15360 (i32.shl (i32.and (i32.wrap_i64 (local.get $lo)) (i32.const 255)) (i32.const 2)))
                     (i32.load offset=14336 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 6))) (i32.const 1020))))
            (i32.xor (i32.load offset=13312 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 14))) (i32.const 1020)))
                     (i32.load offset=12288 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 22))) (i32.const 1020)))))
           (i32.xor
            (i32.xor (i32.load offset=11264 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 30))) (i32.const 1020)))
                     (i32.load offset=10240 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 38))) (i32.const 1020))))
            (i32.xor (i32.load offset=9216 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 46))) (i32.const 1020)))
                     (i32.load offset=8192 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 54))) (i32.const 1020))))))
          (i32.xor
           (i32.xor
            (i32.xor (i32.load offset=7168 (i32.shl (i32.and (i32.wrap_i64 (local.get $hi)) (i32.const 255)) (i32.const 2)))
                     (i32.load offset=6144 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 6))) (i32.const 1020))))
            (i32.xor (i32.load offset=5120 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 14))) (i32.const 1020)))
                     (i32.load offset=4096 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 22))) (i32.const 1020)))))
           (i32.xor
            (i32.xor (i32.load offset=3072 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 30))) (i32.const 1020)))
                     (i32.load offset=2048 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 38))) (i32.const 1020))))
            (i32.xor (i32.load offset=1024 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 46))) (i32.const 1020)))
                     (i32.load offset=0 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $hi) (i64.const 54))) (i32.const 1020))))))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $l)))
    ;; Eight that are left, then four: a step costs about as much as a single byte, and most records are short.
    (if (i32.le_u (i32.add (local.get $at) (i32.const 8)) (local.get $end)) (then
      (local.set $lo (i64.xor (i64.load align=1 (local.get $at)) (i64.extend_i32_u (local.get $crc))))
      (local.set $crc
        (i32.xor
          (i32.xor
            (i32.xor (i32.load offset=7168 (i32.shl (i32.and (i32.wrap_i64 (local.get $lo)) (i32.const 255)) (i32.const 2)))
                     (i32.load offset=6144 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 6))) (i32.const 1020))))
            (i32.xor (i32.load offset=5120 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 14))) (i32.const 1020)))
                     (i32.load offset=4096 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 22))) (i32.const 1020)))))
          (i32.xor
            (i32.xor (i32.load offset=3072 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 30))) (i32.const 1020)))
                     (i32.load offset=2048 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 38))) (i32.const 1020))))
            (i32.xor (i32.load offset=1024 (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 46))) (i32.const 1020)))
                     (i32.load (i32.and (i32.wrap_i64 (i64.shr_u (local.get $lo) (i64.const 54))) (i32.const 1020)))))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))))
    (if (i32.le_u (i32.add (local.get $at) (i32.const 4)) (local.get $end)) (then
      (local.set $crc (i32.xor (local.get $crc) (i32.load align=1 (local.get $at))))
      (local.set $crc
        (i32.xor
          (i32.xor (i32.load offset=3072 (i32.shl (i32.and (local.get $crc) (i32.const 255)) (i32.const 2)))
                   (i32.load offset=2048 (i32.and (i32.shr_u (local.get $crc) (i32.const 6)) (i32.const 1020))))
          (i32.xor (i32.load offset=1024 (i32.and (i32.shr_u (local.get $crc) (i32.const 14)) (i32.const 1020)))
                   (i32.load (i32.and (i32.shr_u (local.get $crc) (i32.const 22)) (i32.const 1020))))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))))
    (block $done2
      (loop $m
        (br_if $done2 (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $crc (i32.xor (i32.shr_u (local.get $crc) (i32.const 8))
          (i32.load (i32.shl (i32.and (i32.xor (local.get $crc) (i32.load8_u (local.get $at))) (i32.const 255)) (i32.const 2)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $m)))
    (local.get $crc))

  ;; The finished CRC of the log record from $at up to $end: its data, then its header up to the CRC itself.
  (func (export "record") (param $at i32) (param $end i32) (result i32)
    (i32.xor (i32.const -1)
      (call $update
        (call $update (i32.const -1) (i32.add (local.get $at) (i32.const 24)) (local.get $end))
        (local.get $at)
        (i32.add (local.get $at) (i32.const 20))))))
